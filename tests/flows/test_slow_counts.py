"""A count that exceeds its time-out ends no run, and hides no other job's backlog (SPEC 10.7)."""

import pytest
from sqlalchemy import Connection, Engine, text

from flows.backlog import read_backlogs
from flows.jobs import JOBS
from maintenance import schema
from maintenance.database import dispose_engines
from maintenance.expiring import EXPIRING
from maintenance.report import StopReason
from maintenance.settings import Settings, settings
from tests.support.hooks import at_statement
from tests.support.runs import run
from tests.support.validibot import NOW, Validibot

COUNTED = {
    "purge-expired-submissions": schema.submissions.name,
    "purge-expired-outputs": schema.runs.name,
    "process-purge-retries": schema.purge_retries.name,
    "cleanup-stuck-runs": schema.runs.name,
    "cleanup-idempotency-keys": schema.idempotency_keys.name,
    "cleanup-callback-receipts": schema.callback_receipts.name,
    "clear-sessions": schema.sessions.name,
}

DELETED_BY_AGE = {one.table.name for one in EXPIRING}
WITH_A_COUNT = [job for job, table in COUNTED.items() if table not in DELETED_BY_AGE]
"""A delete by age knows what it has left, and counts only what it has not reached."""
COUNT = "SELECT count(*) AS count_1"


@pytest.fixture(autouse=True)
def _short_timeout(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that waits for a lock exceeds its time-out."""
    monkeypatch.setenv("MAINTENANCE_STATEMENT_TIMEOUT_SECONDS", "0.4")
    monkeypatch.setenv("MAINTENANCE_LOCK_TIMEOUT_SECONDS", "20")
    settings.cache_clear()
    dispose_engines()


def lock(connection: Connection, table: str) -> None:
    connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))


@pytest.mark.parametrize("job", WITH_A_COUNT)
def test_10_7_a_run_whose_last_count_takes_too_long_is_complete(
    validibot_with_work: Validibot, database: Engine, job: str
) -> None:
    application = database.connect()
    with (
        application,
        at_statement(job, COUNT, lambda _: lock(application, COUNTED[job]), before=True) as met,
    ):
        report = run(JOBS[job].flow, as_of=NOW)
    assert met
    assert report.done > 0
    assert report.stopped_because is StopReason.DRAINED
    assert (report.overdue, report.alerts) == (None, 0)
    assert any("not known, because it took too long" in warning for warning in report.warnings)


@pytest.mark.parametrize("table", sorted(set(COUNTED.values())))
def test_10_7_a_backlog_that_takes_too_long_is_that_jobs_problem(
    validibot: Validibot, database: Engine, table: str
) -> None:
    with database.connect() as application:
        lock(application, table)
        found = read_backlogs()
    failed = {job for job, one in found.items() if one.problem}
    assert failed >= {job for job, counted in COUNTED.items() if counted == table}
    assert failed < set(COUNTED)
    assert all("time" in found[job].problem for job in failed)
    assert all(found[job].overdue is not None for job in set(COUNTED) - failed)
