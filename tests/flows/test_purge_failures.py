"""One item's failure is that item's, and nothing is lost by it (SPEC 2.5, 2.6, 2.9)."""

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.objects import StateType
from sqlalchemy import Engine, text

from flows.purge_expired_submissions import purge_expired_submissions
from flows.run.final_state import ItemsFailed
from flows.run.offline import without_server
from maintenance import schema
from maintenance.errors import DatabaseError, StorageError
from maintenance.report import MAX_FAILURES, Report
from maintenance.settings import Settings
from tasks.purge.submissions import purge_submissions
from tests.support.hooks import CLAIM, STAMP, at_statement
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

JOB = purge_expired_submissions.name
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _environment(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without a wait: what is tried here is whether they happen."""
    monkeypatch.setattr(purge_submissions, "retry_delay_seconds", [0, 0, 0])
    monkeypatch.setattr(purge_submissions, "retry_jitter_factor", None)


def purge(**parameters: Any) -> Report:
    return run(purge_expired_submissions, **{"as_of": NOW, **parameters})


def blocked(validibot: Validibot, number: int = 0, **values: Any) -> UUID:
    """A submission whose file is a directory, so that it cannot be deleted."""
    key = f"submissions/blocked-{number}"
    (validibot.root / "private" / key).mkdir(parents=True)
    return validibot.submission(input_file=key, **values)


def test_a_file_that_cannot_be_deleted_fails_its_submission_and_no_other(
    validibot: Validibot,
) -> None:
    failing, gone = blocked(validibot), validibot.submission()
    before = validibot.row(schema.submissions, failing)
    report = purge()
    assert (report.done, report.failed) == (1, 1)
    assert validibot.purged() == {gone}
    assert validibot.row(schema.submissions, failing) == before
    (failure,) = report.failures
    assert failure.item == f"submission {failing}"
    assert "is a directory where a file was expected" in failure.cause
    (queued,) = validibot.rows(schema.purge_retries).values()
    assert (queued["submission_id"], queued["attempt_count"]) == (failing, 1)
    assert queued["next_retry_at"] - queued["last_attempt_at"] == 60 * SECOND
    assert queued["last_error"] == failure.cause


def test_a_run_with_failed_items_does_not_look_green(validibot: Validibot) -> None:
    failing = blocked(validibot)
    with without_server():
        state: Any = purge_expired_submissions.fn(as_of=NOW)
    assert (state.type, state.name) == (StateType.FAILED, "Failed")
    assert state.message == "Items failed: 0 of 1 done, 1 failed, 1 still overdue"
    assert isinstance(state.data, ItemsFailed)
    assert state.data.report.failures[0].item == f"submission {failing}"


@pytest.mark.parametrize(
    "key",
    [
        "../../outside.json",
        "submissions/../../../outside.json",
        "evidence/1/manifest.json",
        "/etc/x",
    ],
)
def test_a_name_that_leaves_its_root_or_names_evidence_is_refused(
    validibot: Validibot, tmp_path: Path, key: str
) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text("precious")
    validibot.file("evidence/1/manifest.json")
    validibot.submission(input_file=key)
    report = purge()
    assert (report.done, report.failed) == (0, 1)
    assert "refused" in report.failures[0].cause
    assert outside.read_text() == "precious"
    assert validibot.files() == {"private/evidence/1/manifest.json"}


def test_a_directory_that_is_a_link_is_not_followed(validibot: Validibot, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.json").write_text("precious")
    (validibot.root / "private" / "submissions").symlink_to(elsewhere)
    validibot.submission(input_file="submissions/a.json")
    assert purge().failed == 1
    assert (elsewhere / "a.json").read_text() == "precious"


def test_a_row_that_the_database_refuses_fails_alone(
    validibot: Validibot, database: Engine
) -> None:
    submissions = [validibot.submission() for _ in range(9)]
    refused = submissions[4]
    with database.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'not this one'; END $$"
            )
        )
        connection.execute(
            text(
                "CREATE TRIGGER refuse BEFORE UPDATE ON submissions_submission"
                f" FOR EACH ROW WHEN (OLD.id = '{refused}') EXECUTE FUNCTION refuse()"
            )
        )
    report = purge()
    assert (report.done, report.failed) == (8, 1)
    assert validibot.purged() == set(submissions) - {refused}
    assert report.failures[0].item == f"submission {refused}"
    assert report.failures[0].cause == "RaiseException: not this one"
    (queued,) = validibot.rows(schema.purge_retries).values()
    assert (queued["submission_id"], queued["attempt_count"]) == (refused, 1)


def test_failing_rows_do_not_block_the_rows_behind_them(
    validibot: Validibot,
) -> None:
    failing = {
        blocked(validibot, number, created=NOW - 90 * DAY, expires_at=NOW - 83 * DAY)
        for number in range(30)
    }
    gone = {validibot.submission() for _ in range(10)}
    report = purge(batch_size=4)
    assert validibot.purged() == gone
    assert (report.selected, report.done, report.failed) == (40, 10, 30)
    assert len(report.failures) == MAX_FAILURES
    queued = validibot.rows(schema.purge_retries).values()
    assert {row["submission_id"]: row["attempt_count"] for row in queued} == dict.fromkeys(
        failing, 1
    )


def test_a_failed_submission_waits_for_its_backoff_unless_it_is_asked_for(
    validibot: Validibot,
) -> None:
    failing = blocked(validibot)
    purge()
    again = purge()
    assert (again.selected, again.failed) == (0, 0)
    assert again.overdue is not None
    assert again.overdue.rows == 1
    assert purge(retry_failed=True).failed == 1
    (queued,) = validibot.rows(schema.purge_retries).values()
    assert queued["attempt_count"] == 2
    assert queued["next_retry_at"] - queued["last_attempt_at"] == 300 * SECOND
    (validibot.root / "private/submissions/blocked-0").rmdir()
    assert purge(retry_failed=True).done == 1
    assert validibot.purged() == {failing}
    assert validibot.rows(schema.purge_retries) == {}


def test_a_missing_storage_root_is_not_taken_for_missing_files(validibot: Validibot) -> None:
    validibot.submission(input_file="submissions/a.json")
    shutil.rmtree(validibot.root / "private")
    with pytest.raises(StorageError, match="Is the volume mounted"):
        purge()
    assert validibot.purged() == set()


@pytest.mark.parametrize("point", [CLAIM, STAMP])
def test_a_lost_connection_is_retried_and_the_work_completed(
    validibot: Validibot, database: Engine, point: str
) -> None:
    gone = {validibot.submission() for _ in range(3)}
    with at_statement(JOB, point, terminator(database), before=True, times=3) as met:
        report = purge()
    assert len(met) == 3
    assert (report.done, report.failed) == (3, 0)
    assert validibot.purged() == gone


def test_a_connection_that_keeps_being_lost_fails_the_run_after_four_attempts(
    validibot: Validibot, database: Engine
) -> None:
    validibot.submission()
    with (
        at_statement(JOB, STAMP, terminator(database), before=True, times=99) as met,
        pytest.raises(DatabaseError),
    ):
        purge()
    assert len(met) == 4
    assert validibot.purged() == set()


def test_what_was_done_before_a_lost_connection_is_counted(
    validibot: Validibot, database: Engine
) -> None:
    for _ in range(4):
        validibot.submission()
    seen: list[int] = []

    def second_time(connection: Any) -> None:
        seen.append(1)
        if len(seen) == 2:
            terminator(database)(connection)

    with at_statement(JOB, STAMP, second_time, before=True, times=99):
        report = purge(batch_size=1)
    assert (report.done, report.failed) == (4, 0)
    assert any("interrupted" in warning for warning in report.warnings)


def terminator(database: Engine) -> Any:
    """Return a hook that ends the session which is about to run a statement."""

    def terminate(connection: Any) -> None:
        pid = connection.connection.driver_connection.info.backend_pid
        with database.begin() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    return terminate
