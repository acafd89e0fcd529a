"""Times that Python cannot hold, or not add days to, are their row's and stop no job (10.7)."""

from typing import Any
from uuid import UUID

import pytest
from prefect import Flow
from sqlalchemy import Engine, text

from flows.cleanup_stuck_runs import cleanup_stuck_runs
from flows.jobs import JOBS
from flows.process_purge_retries import process_purge_retries
from flows.purge_expired_outputs import purge_expired_outputs
from flows.purge_expired_submissions import purge_expired_submissions
from maintenance import schema
from maintenance.cutoff import Cutoff
from tests.support.runs import run
from tests.support.validibot import BEFORE, DAY, NOW, Validibot

VALUES = ("infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "9999-12-30 00:00:00+00")

LATE = ("infinity", "9999-12-30 00:00:00+00")
"""A constraint lets no ended run start so late."""

COLUMNS: dict[str, tuple[tuple[str, str], ...]] = {
    purge_expired_submissions.name: (
        ("submissions_submission", "created"),
        ("submissions_submission", "expires_at"),
        ("validations_validationrun", "ended_at"),
        ("submissions_purgeretry", "next_retry_at"),
        ("submissions_purgeretry", "last_attempt_at"),
    ),
    process_purge_retries.name: (
        ("submissions_submission", "created"),
        ("validations_validationrun", "ended_at"),
        ("submissions_purgeretry", "next_retry_at"),
        ("submissions_purgeretry", "created_at"),
        ("submissions_purgeretry", "last_attempt_at"),
    ),
    purge_expired_outputs.name: (
        ("validations_validationrun", "started_at"),
        ("validations_validationrun", "ended_at"),
        ("validations_validationrun", "output_expires_at"),
        ("submissions_submission", "created"),
        ("submissions_submission", "expires_at"),
    ),
    cleanup_stuck_runs.name: (
        ("validations_validationrun", "created"),
        ("validations_validationrun", "started_at"),
        ("validations_executionattempt", "timeout_at"),
        ("validations_executionattempt", "created"),
    ),
}

CASES = [
    pytest.param(job, table, column, value, id=f"{job}-{table}.{column}-{value[:9]}")
    for job, columns in COLUMNS.items()
    for table, column in columns
    for value in VALUES
    if not (column == "started_at" and value in LATE and job == purge_expired_outputs.name)
]


def item(validibot: Validibot, job: str) -> tuple[UUID, UUID]:
    """A submission and its run, of which one is due for the job, with all rows that it reads."""
    due: dict[str, Any] = {}
    if job == process_purge_retries.name:
        due = {"retention_policy": "DO_NOT_STORE", "expires_at": None}
    submission = validibot.submission(**due)
    stuck = job == cleanup_stuck_runs.name
    run_id = validibot.run(
        submission,
        status="RUNNING" if stuck else "SUCCEEDED",
        started_at=BEFORE,
        ended_at=None if stuck else NOW - 8 * DAY,
        output_retention_policy="STORE_1_DAY",
        output_expires_at=NOW - DAY,
    )
    step = validibot.step_run(run_id, status="RUNNING" if stuck else "PASSED")
    attempt = {"state": "RUNNING", "timeout_at": NOW - DAY} if stuck else {}
    validibot.attempt(step, **attempt)
    if job != purge_expired_outputs.name and not stuck:
        validibot.insert(
            schema.purge_retries,
            submission_id=submission,
            next_retry_at=NOW - DAY,
            created_at=BEFORE,
            last_attempt_at=BEFORE,
            attempt_count=1,
        )
    return submission, run_id


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("job", "table", "column", "value"), CASES)
def test_10_7_an_odd_time_is_its_rows_and_the_others_are_done(
    validibot: Validibot, database: Engine, job: str, table: str, column: str, value: str
) -> None:
    items = [item(validibot, job) for _ in range(4)]
    submission, run_id = items[1]
    key = {
        "submissions_submission": ("id", submission),
        "submissions_purgeretry": ("submission_id", submission),
        "validations_validationrun": ("id", run_id),
    }.get(table)
    where = "step_run_id IN (SELECT id FROM validations_validationsteprun WHERE validation_run_id"
    condition = f"{key[0]} = '{key[1]}'" if key else f"{where} = '{run_id}')"
    change = f"{column} = CAST(:value AS timestamptz)"
    if column == "ended_at":
        change += ", started_at = NULL"  # a constraint lets no run end before its start
    with database.begin() as connection:
        changed = connection.execute(
            text(f"UPDATE {table} SET {change} WHERE {condition}"),
            {"value": value},
        )
        assert changed.rowcount == 1
    flow: Flow[..., Any] = JOBS[job].flow
    forecast = run(flow, as_of=NOW, dry_run=True)
    assert JOBS[job].count_overdue(Cutoff(NOW, NOW), job) is not None
    report = run(flow, as_of=NOW)
    kind = "submission" if "submission" in job or "retries" in job else "run"
    names = {f"{kind} {submission}", f"{kind} {run_id}"}
    assert {failure.item for failure in report.failures} <= names
    assert {failure.item for failure in forecast.failures} <= names
    done = {
        purge_expired_submissions.name: "content_purged_at IS NOT NULL",
        process_purge_retries.name: "content_purged_at IS NOT NULL",
        purge_expired_outputs.name: "output_purged_at IS NOT NULL",
        cleanup_stuck_runs.name: "status = 'TIMED_OUT'",
    }[job]
    of = "submissions_submission" if kind == "submission" else "validations_validationrun"
    with database.connect() as connection:
        found = set(connection.execute(text(f"SELECT id FROM {of} WHERE {done}")).scalars())
    others = {(one[0] if kind == "submission" else one[1]) for one in items if one != items[1]}
    assert found >= others
    assert report.selected >= len(others)
    assert forecast.selected == report.selected
