"""cleanup-stuck-runs beside the application: the first commit wins, without a wait (SPEC 6)."""

from collections.abc import Iterator
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from flows.cleanup_stuck_runs import cleanup_stuck_runs
from maintenance import schema
from maintenance.report import Report
from maintenance.settings import Settings, settings
from tests.support.hooks import at_statement
from tests.support.runs import run
from tests.support.stuck import Hanging
from tests.support.validibot import DAY, NOW, Validibot

JOB = cleanup_stuck_runs.name
CLAIM = "FOR UPDATE OF validations_validationrun SKIP LOCKED"
LOCK_ATTEMPTS = "FOR UPDATE OF validations_executionattempt SKIP LOCKED"
END = "UPDATE validations_validationrun SET modified="

SUCCEED = text(
    "UPDATE validations_validationrun SET status = 'SUCCEEDED', ended_at = now()"
    " WHERE id = :id AND status = 'RUNNING'"
)
COMPLETE = text("UPDATE validations_executionattempt SET state = 'COMPLETED' WHERE id = :id")
PROLONG = text("UPDATE validations_executionattempt SET timeout_at = :later WHERE id = :id")


@pytest.fixture
def hanging(
    environment: Settings, validibot: Validibot, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hanging]:
    """A short lock timeout, because the tests are about what happens after it."""
    monkeypatch.setenv("MAINTENANCE_LOCK_TIMEOUT_SECONDS", "0.1")
    settings.cache_clear()
    yield Hanging(validibot)
    settings.cache_clear()


def clean(**parameters: Any) -> Report:
    return run(cleanup_stuck_runs, **{"as_of": NOW, **parameters})


def statuses(hanging: Hanging, *run_ids: UUID) -> list[str]:
    rows = hanging.validibot.rows(schema.runs)
    return [rows[run_id]["status"] for run_id in run_ids]


def test_a_callback_that_commits_before_the_claim_wins(hanging: Hanging, database: Engine) -> None:
    late, stuck = hanging.run(), hanging.run()
    attempt = hanging.tried(late)

    def call_back(_connection: Any) -> None:
        with database.begin() as application:
            application.execute(COMPLETE, {"id": attempt})
            application.execute(SUCCEED, {"id": late})

    with at_statement(JOB, CLAIM, call_back, before=True) as met:
        report = clean()
    assert met
    assert statuses(hanging, late, stuck) == ["SUCCEEDED", "TIMED_OUT"]
    row = hanging.validibot.row(schema.runs, late)
    assert (row["error"], row["error_category"]) == ("", "")
    assert hanging.validibot.row(schema.attempts, attempt)["state"] == "COMPLETED"
    assert (report.selected, report.done, report.failed) == (1, 1, 0)
    evidence = {row["run_id"] for row in hanging.validibot.rows(schema.evidence).values()}
    assert evidence == {stuck}


def test_a_callback_that_comes_after_the_claim_waits_and_finds_the_run_timed_out(
    hanging: Hanging, database: Engine
) -> None:
    late = hanging.run()
    hanging.tried(late)
    changed: list[int] = []
    threads: list[Thread] = []

    def call_back() -> None:
        with database.begin() as application:
            changed.append(application.execute(SUCCEED, {"id": late}).rowcount)

    def start(_connection: Any) -> None:
        threads.append(Thread(target=call_back))
        threads[0].start()
        threads[0].join(0.2)
        assert not changed, "the callback must be waiting for the claim"

    with at_statement(JOB, END, start, before=True) as met:
        report = clean()
    assert met
    threads[0].join(10)
    assert changed == [0]
    assert statuses(hanging, late) == ["TIMED_OUT"]
    assert (report.done, report.failed) == (1, 0)


def test_a_callback_that_is_on_its_way_is_left_to_end_its_run(
    hanging: Hanging, database: Engine
) -> None:
    """The application may have locked the run's row first, or the attempt's."""
    by_run, by_attempt, stuck = hanging.run(), hanging.run(), hanging.run()
    hanging.tried(by_run)
    attempt = hanging.tried(by_attempt)
    before = hanging.validibot.row(schema.attempts, attempt)
    with database.begin() as application:
        application.execute(SUCCEED, {"id": by_run})
        application.execute(COMPLETE, {"id": attempt})
        report = clean()
        assert statuses(hanging, by_attempt, stuck) == ["RUNNING", "TIMED_OUT"]
        assert hanging.validibot.row(schema.attempts, attempt) == before
        assert (report.selected, report.done, report.deferred, report.failed) == (2, 1, 1, 0)
        assert report.overdue is not None
        assert report.overdue.rows == 2
        application.execute(SUCCEED, {"id": by_attempt})
    assert clean().selected == 0
    assert statuses(hanging, by_run, by_attempt) == ["SUCCEEDED", "SUCCEEDED"]


def test_a_locked_attempt_costs_the_others_no_wait(hanging: Hanging, database: Engine) -> None:
    runs = [hanging.run() for _ in range(20)]
    attempts = [hanging.tried(run_id) for run_id in runs]
    statements: list[str] = []
    with database.begin() as application:
        for attempt in attempts[::2]:
            application.execute(COMPLETE, {"id": attempt})
        with at_statement(JOB, CLAIM, lambda _: None, times=1_000) as statements:
            report = clean(batch_size=100)
    assert (report.done, report.deferred) == (10, 10)
    # None of the batches was split; two others follow up, and count the runs that wait.
    assert len([one for one in statements if CLAIM in one]) == report.batches - 2


@pytest.mark.parametrize("moment", [CLAIM, LOCK_ATTEMPTS])
def test_a_deadline_that_moves_after_the_claim_saves_its_run(
    hanging: Hanging, database: Engine, moment: str
) -> None:
    saved, stuck = hanging.run(), hanging.run()
    attempt = hanging.tried(saved, timeout_at=NOW)
    before = hanging.validibot.row(schema.runs, saved)

    def prolong(_connection: Any) -> None:
        with database.begin() as application:
            application.execute(PROLONG, {"id": attempt, "later": NOW + DAY})

    with at_statement(JOB, moment, prolong, before=moment == LOCK_ATTEMPTS) as met:
        report = clean()
    assert met
    assert hanging.validibot.row(schema.runs, saved) == before
    assert statuses(hanging, stuck) == ["TIMED_OUT"]
    assert (report.selected, report.done, report.skipped, report.failed) == (2, 1, 1, 0)


def test_a_run_that_is_deleted_beside_the_job_is_no_failure(
    hanging: Hanging, database: Engine
) -> None:
    deleted, stuck = hanging.run(), hanging.run()

    def delete(_connection: Any) -> None:
        with database.begin() as application:
            query = text("DELETE FROM validations_validationrun WHERE id = :id")
            application.execute(query, {"id": deleted})

    with at_statement(JOB, CLAIM, delete, before=True) as met:
        report = clean()
    assert met
    assert (report.done, report.failed) == (1, 0)
    assert set(hanging.validibot.rows(schema.runs)) == {stuck}


REFUSE = (
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RAISE EXCEPTION 'not this one'; END $$"
)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("table", ["validations_validationrun", "validations_executionattempt"])
def test_a_run_that_the_database_refuses_fails_alone(
    hanging: Hanging, database: Engine, table: str, batch_size: int
) -> None:
    runs = [hanging.run() for _ in range(9)]
    attempts = [hanging.tried(run_id) for run_id in runs]
    place = 4
    key = runs[place] if table == "validations_validationrun" else attempts[place]
    with database.begin() as connection:
        connection.execute(text(REFUSE))
        connection.execute(
            text(
                f"CREATE TRIGGER refuse BEFORE UPDATE ON {table} FOR EACH ROW"
                f" WHEN (OLD.id = '{key}') EXECUTE FUNCTION refuse()"
            )
        )
    report = clean(batch_size=batch_size)
    assert (report.selected, report.done, report.failed) == (9, 8, 1)
    (failure,) = report.failures
    assert failure.item == f"run {runs[place]}"
    assert "not this one" in failure.cause
    others = [run_id for run_id in runs if run_id != runs[place]]
    assert set(statuses(hanging, *others)) == {"TIMED_OUT"}
    assert statuses(hanging, runs[place]) == ["RUNNING"]
    assert hanging.validibot.row(schema.attempts, attempts[place])["state"] == "RUNNING"
    evidence = {row["run_id"] for row in hanging.validibot.rows(schema.evidence).values()}
    assert evidence == set(others)
    again = clean(batch_size=batch_size)
    assert (again.selected, again.done, again.failed) == (1, 0, 1)
