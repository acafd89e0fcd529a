"""cleanup-stuck-runs, where runs wait for Validibot to start their next step (SPEC 6.5)."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from deployments.monitoring.continuations import continuation_problems
from flows.cleanup_stuck_runs import cleanup_stuck_runs
from maintenance import schema
from maintenance.checks.continuations import CONTINUATIONS
from maintenance.checks.database import database_check
from maintenance.checks.finding import Finding, carry_out
from maintenance.report import Report
from maintenance.schema.vocabulary import UNFINISHED_CONTINUATION_STATES, ContinuationState
from maintenance.settings import Settings, settings
from tests.support.hooks import at_statement
from tests.support.poison import poison
from tests.support.runs import run
from tests.support.stuck import MINUTE, Hanging
from tests.support.validibot import NOW, TICK, Validibot

JOB = cleanup_stuck_runs.name
LOCK_ATTEMPTS = "FOR UPDATE OF validations_executionattempt SKIP LOCKED"
LIMIT = timedelta(minutes=60)


@pytest.fixture
def hanging(environment: Settings, validibot: Validibot) -> Hanging:
    return Hanging(validibot)


def clean(**parameters: Any) -> Report:
    return run(cleanup_stuck_runs, **{"as_of": NOW, **parameters})


def status(hanging: Hanging, run_id: UUID) -> str:
    found: str = hanging.validibot.row(schema.runs, run_id)["status"]
    return found


def continued(hanging: Hanging, **values: Any) -> UUID:
    """A run whose time is over, with an attempt and a continuation."""
    run_id = hanging.run()
    hanging.tried(run_id, timeout_at=NOW - MINUTE)
    hanging.validibot.continuation(run_id, **{"state": "PENDING", "created": NOW, **values})
    return run_id


@pytest.mark.parametrize("state", list(ContinuationState))
def test_a_run_with_an_unfinished_continuation_is_deferred(
    hanging: Hanging, state: ContinuationState
) -> None:
    run_id, other = continued(hanging, state=state), hanging.run()
    unfinished = state in UNFINISHED_CONTINUATION_STATES
    before = hanging.validibot.snapshot()
    forecast = clean(dry_run=True)
    assert hanging.validibot.snapshot() == before
    report = clean()
    assert status(hanging, run_id) == ("RUNNING" if unfinished else "TIMED_OUT")
    assert status(hanging, other) == "TIMED_OUT"
    expected = (2, 1, 1) if unfinished else (2, 2, 0)
    assert (report.selected, report.done, report.deferred) == expected
    assert (forecast.selected, forecast.deferred) == (report.selected, report.deferred)
    assert forecast.fingerprint == report.fingerprint
    assert report.overdue is not None
    assert report.overdue.rows == 0
    if unfinished:
        row = hanging.validibot.rows(schema.attempts).values()
        assert {one["state"] for one in row if one["timeout_at"]} == {"RUNNING"}


def test_a_run_that_is_not_over_yet_is_not_counted(hanging: Hanging) -> None:
    run_id = hanging.run(started_at=NOW - MINUTE)
    hanging.validibot.continuation(run_id, state="PENDING")
    assert clean().selected == 0


def test_a_continuation_that_is_committed_after_the_claim_saves_its_run(
    hanging: Hanging, database: Engine
) -> None:
    run_id, other = hanging.run(), hanging.run()
    step = hanging.step(run_id)

    def call_back(_connection: Any) -> None:
        hanging.validibot.insert(
            schema.continuations,
            state="PENDING",
            validation_run_id=run_id,
            completed_step_run_id=step,
        )

    # The key to the run is checked at the end, and waits for the claim: it is left out here.
    with database.begin() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE validations_validationruncontinuation DROP CONSTRAINT"
            " validations_validati_validation_run_id_b092f696_fk_validatio"
        )
    with at_statement(JOB, LOCK_ATTEMPTS, call_back, before=True) as met:
        report = clean()
    assert met
    assert status(hanging, run_id) == "RUNNING"
    assert status(hanging, other) == "TIMED_OUT"
    assert (report.done, report.skipped, report.failed) == (1, 1, 0)


def test_waiting_runs_take_no_place_from_those_that_hang(hanging: Hanging) -> None:
    waiting = [continued(hanging) for _ in range(5)]
    stuck = hanging.run()
    report = clean(batch_size=1, max_batches=1)
    assert status(hanging, stuck) == "TIMED_OUT"
    assert {status(hanging, one) for one in waiting} == {"RUNNING"}
    assert report.done == 1


def test_a_continuation_is_old_after_the_minutes_of_the_setting(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    continued(hanging, created=NOW - LIMIT)
    assert clean(dry_run=True).warnings == []
    continued(hanging, created=NOW - LIMIT - TICK, state="EXECUTING")
    continued(hanging, created=NOW - 2 * LIMIT)
    ended = hanging.validibot.run(None)
    hanging.validibot.continuation(ended, state="PENDING", created=NOW - 9 * LIMIT)
    expected = (
        "2 continuations of running validation runs are unfinished for more than 60 minutes, the"
        " oldest for 2 hours (1 EXECUTING, 1 PENDING): Validibot's own command redelivers them:"
        " python manage.py cleanup_stuck_runs (docs/migration.md)"
    )
    for dry_run in (True, False):
        assert clean(dry_run=dry_run).warnings == [expected]
    monkeypatch.setenv("MAINTENANCE_CONTINUATION_MINUTES", "180")
    settings.cache_clear()
    assert clean(dry_run=True).warnings == []


@pytest.mark.parametrize("created", ["-infinity", "0044-03-15 12:00+00 BC"])
def test_10_7_a_continuation_of_an_odd_time_is_old(
    hanging: Hanging, database: Engine, created: str
) -> None:
    continued(hanging)
    with database.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE validations_validationruncontinuation SET created = '{created}'"
        )
    (warning,) = clean(dry_run=True).warnings
    assert warning.startswith("1 continuations of running validation runs are unfinished")
    assert ("the oldest for" in warning) is ("BC" in created)


def finding() -> Finding:
    return {one.name: one for one in carry_out([database_check(settings())])}[CONTINUATIONS]


def test_check_and_watch_say_that_continuations_are_old(hanging: Hanging) -> None:
    """They ask the database's clock, which is not that of the tests."""
    assert finding().level == "ok"
    assert continuation_problems() == []
    continued(hanging, created=NOW - 400 * LIMIT)
    found = finding()
    assert found.level == "warning"
    assert "1 continuations of running validation runs are unfinished" in found.text
    assert "python manage.py cleanup_stuck_runs" in found.action
    (problem,) = continuation_problems()
    assert problem.name == "continuations"
    assert "Validibot's own command redelivers them" in problem.text


def test_a_continuation_that_cannot_be_read_is_no_failure_of_the_watch(
    hanging: Hanging, database: Engine
) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE validations_validationruncontinuation RENAME state TO status"
        )
    assert continuation_problems() == []


def test_10_7_a_waiting_run_is_not_written(hanging: Hanging, database: Engine) -> None:
    run_id = continued(hanging)
    poison(database, schema.runs.name, run_id)
    report = clean()
    assert (report.deferred, report.failed) == (1, 0)
