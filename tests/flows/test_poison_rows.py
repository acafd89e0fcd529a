"""A row that the database refuses, or cannot finish, fails alone; the others are done (10.7)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from prefect import Flow
from sqlalchemy import Engine

from flows.cleanup_stuck_runs import cleanup_stuck_runs
from flows.process_purge_retries import process_purge_retries
from flows.purge_expired_outputs import purge_expired_outputs
from flows.purge_expired_submissions import purge_expired_submissions
from maintenance import schema
from maintenance.database import dispose_engines
from maintenance.settings import settings
from tests.support.poison import HANG, REFUSE, poison
from tests.support.runs import run
from tests.support.validibot import BEFORE, DAY, NOW, Validibot

ROWS = 9
SUBMISSIONS, RUNS = schema.submissions.name, schema.runs.name


@dataclass(frozen=True)
class Job:
    """A job, how to make an item of it, and the table that holds the item."""

    flow: Flow[..., Any]
    table: str
    make: Callable[[Validibot], UUID]

    @property
    def kind(self) -> str:
        return "submission" if self.table == SUBMISSIONS else "run"


def due_output(validibot: Validibot) -> UUID:
    return validibot.run(
        None, output_retention_policy="STORE_1_DAY", output_expires_at=NOW - DAY, ended_at=BEFORE
    )


def queued(validibot: Validibot) -> UUID:
    submission = validibot.submission(retention_policy="DO_NOT_STORE", expires_at=None)
    validibot.insert(
        schema.purge_retries, submission_id=submission, next_retry_at=NOW - DAY, created_at=BEFORE
    )
    return submission


def stuck(validibot: Validibot) -> UUID:
    return validibot.run(None, status="RUNNING", started_at=BEFORE, ended_at=None)


JOBS = {
    "submissions": Job(purge_expired_submissions, SUBMISSIONS, lambda v: v.submission()),
    "outputs": Job(purge_expired_outputs, RUNS, due_output),
    "queue": Job(process_purge_retries, SUBMISSIONS, queued),
    "stuck": Job(cleanup_stuck_runs, RUNS, stuck),
}

jobs = pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)


@pytest.fixture(autouse=True)
def _short_timeout(environment: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINTENANCE_STATEMENT_TIMEOUT_SECONDS", "0.4")
    settings.cache_clear()
    dispose_engines()


@jobs
@pytest.mark.parametrize(
    ("does", "at_commit", "cause"),
    [
        (REFUSE, False, "RaiseException: not this one"),
        (REFUSE, True, "RaiseException: not this one"),
        (HANG, False, "QueryCanceled: canceling statement due to statement timeout"),
    ],
    ids=["refused", "refused-at-commit", "too-slow"],
)
def test_10_7_a_poison_row_fails_alone_and_the_others_are_done(
    validibot: Validibot, database: Engine, job: Job, does: str, at_commit: bool, cause: str
) -> None:
    items = [job.make(validibot) for _ in range(ROWS)]
    bad = items[4]
    poison(database, job.table, bad, does, at_commit=at_commit)
    report = run(job.flow, as_of=NOW)
    assert (report.selected, report.done, report.failed) == (ROWS, ROWS - 1, 1)
    (failure,) = report.failures
    assert failure.item == f"{job.kind} {bad}"
    assert failure.cause.partition("; ")[0] == cause


def test_10_7_a_deadline_that_cannot_be_repaired_fails_its_submission_alone(
    validibot: Validibot, database: Engine
) -> None:
    undated = [validibot.submission(expires_at=None) for _ in range(ROWS)]
    dated = [validibot.submission(retention_policy="STORE_30_DAYS") for _ in range(ROWS)]
    bad = undated[4]
    poison(database, SUBMISSIONS, bad)
    report = run(purge_expired_submissions, as_of=NOW)
    assert {failure.item for failure in report.failures} == {f"submission {bad}"}
    table = validibot.rows(schema.submissions)
    expired = {row_id for row_id in undated if row_id != bad}
    assert validibot.purged() == expired
    assert all(table[row_id]["expires_at"] > NOW for row_id in dated)


def test_10_7_a_run_whose_deadline_cannot_be_written_fails_alone(
    validibot: Validibot, database: Engine
) -> None:
    policy = "STORE_1_DAY"
    lacking = [
        validibot.run(None, output_retention_policy=policy, output_expires_at=None, ended_at=BEFORE)
        for _ in range(ROWS)
    ]
    bad = lacking[4]
    poison(database, RUNS, bad)
    report = run(purge_expired_outputs, as_of=NOW)
    assert {failure.item for failure in report.failures} == {f"run {bad}"}
    assert report.done == ROWS - 1


def test_10_7_a_submission_that_cannot_be_queued_fails_alone(
    validibot: Validibot, database: Engine
) -> None:
    found = [
        validibot.submission(retention_policy="DO_NOT_STORE", expires_at=None) for _ in range(ROWS)
    ]
    bad = found[4]
    poison(database, schema.purge_retries.name, bad, REFUSE, on="INSERT", column="submission_id")
    report = run(process_purge_retries, as_of=NOW)
    assert {failure.item for failure in report.failures} == {f"submission {bad}"}
    assert validibot.purged() == set(found) - {bad}


@pytest.mark.parametrize("batch_size", [1, 1000])
def test_a_failure_that_cannot_be_recorded_is_reported_with_both_causes(
    validibot: Validibot, database: Engine, batch_size: int
) -> None:
    key = "submissions/blocked"
    (validibot.root / "private" / key).mkdir(parents=True)
    bad = validibot.submission(input_file=key, expires_at=NOW - 3 * DAY)
    good = [validibot.submission() for _ in range(3)]
    poison(database, schema.purge_retries.name, bad, REFUSE, on="INSERT", column="submission_id")
    report = run(purge_expired_submissions, as_of=NOW, batch_size=batch_size)
    assert validibot.purged() == set(good)
    # Both passes of the run select it: nothing in the database says that it failed before.
    (failure,) = set(report.failures)
    assert failure.item == f"submission {bad}"
    assert "is a directory where a file was expected" in failure.cause
    assert failure.cause.endswith("; the failure was not recorded: RaiseException: not this one")


def test_a_queue_that_takes_no_new_rows_does_not_end_the_run(
    validibot: Validibot, database: Engine
) -> None:
    key = "submissions/blocked"
    (validibot.root / "private" / key).mkdir(parents=True)
    validibot.submission(input_file=key, expires_at=NOW - 3 * DAY)
    good = validibot.submission()
    with database.begin() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE submissions_purgeretry ADD CONSTRAINT closed CHECK (attempt_count < 1)"
        )
    report = run(purge_expired_submissions, as_of=NOW, batch_size=1)
    assert validibot.purged() == {good}
    assert "; the failure was not recorded: CheckViolation" in report.failures[0].cause


@pytest.mark.parametrize(("age_seconds", "purged"), [(3599, False), (3600, True), (3601, True)])
def test_5_4_a_submission_without_a_run_is_left_alone_for_less_than_an_hour(
    validibot: Validibot, age_seconds: int, purged: bool
) -> None:
    created = NOW - DAY / 86_400 * age_seconds
    made = validibot.submission(retention_policy="DO_NOT_STORE", expires_at=None, created=created)
    run(process_purge_retries, as_of=NOW)
    assert validibot.purged() == ({made} if purged else set())


def test_10_3_a_refused_row_keeps_its_own_file(validibot: Validibot, database: Engine) -> None:
    for name in ("bad", "good"):
        validibot.file(f"submissions/{name}.json")
    bad = validibot.submission(input_file="submissions/bad.json")
    good = validibot.submission(input_file="submissions/good.json")
    poison(database, SUBMISSIONS, bad)
    report = run(purge_expired_submissions, as_of=NOW)
    assert report.failed == 1
    assert validibot.purged() == {good}
    assert validibot.files() == {"private/submissions/bad.json"}


@pytest.mark.parametrize("blocker", ["bundle", "port"])
def test_10_3_a_submissions_own_file_is_kept_while_another_file_cannot_be_deleted(
    validibot: Validibot, blocker: str
) -> None:
    validibot.file("submissions/a.json")
    validibot.file("ports/good.json")
    submission = validibot.submission(input_file="submissions/a.json")
    run_id = validibot.run(submission)
    validibot.insert(schema.input_files, submission_id=submission, input_file="ports/good.json")
    key = "ports/bad.json"
    if blocker == "port":
        (validibot.root / "private" / key).mkdir(parents=True)
        validibot.insert(schema.input_files, submission_id=submission, input_file=key)
    else:
        # Not a directory: the bundle cannot be entered.
        validibot.bundle(run_id).parent.mkdir(parents=True)
        validibot.bundle(run_id).write_text("no bundle")
    report = run(purge_expired_submissions, as_of=NOW)
    assert (report.done, report.failed) == (0, 1)
    assert (validibot.root / "private/submissions/a.json").exists()
    assert not (validibot.root / "private/ports/good.json").exists()
    row = validibot.row(schema.submissions, submission)
    assert (row["input_file"], row["content_purged_at"]) == ("submissions/a.json", None)
