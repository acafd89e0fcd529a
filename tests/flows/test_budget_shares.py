"""Purging gets its turn, however much there is to repair and to discover (SPEC 10.10)."""

import pytest

from flows.cleanup_stuck_runs import cleanup_stuck_runs
from flows.process_purge_retries import process_purge_retries
from flows.purge_expired_outputs import purge_expired_outputs
from flows.purge_expired_submissions import purge_expired_submissions
from maintenance import budget, schema
from maintenance import settings as settings_module
from maintenance.settings import Settings
from tasks.stuck.runs import FOLLOWED_UP
from tests.support.runs import run
from tests.support.stuck import Hanging
from tests.support.validibot import DAY, NOW, Validibot

JOBS = {
    one.name: one
    for one in (
        purge_expired_submissions,
        purge_expired_outputs,
        process_purge_retries,
        cleanup_stuck_runs,
    )
}
ITEMS = 7


@pytest.fixture(autouse=True)
def _environment(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has its own database and storage, and no batch is made smaller for its time."""
    monkeypatch.setenv("MAINTENANCE_BATCH_SECONDS", "60")
    settings_module.settings.cache_clear()


def make(validibot: Validibot, job: str) -> None:
    """Items that are due, and others to repair or to discover."""
    hanging = Hanging(validibot)
    for _ in range(ITEMS):
        due = validibot.submission()
        if job == process_purge_retries.name:
            validibot.queued(due)
        if job == purge_expired_outputs.name:
            validibot.run(None, output_retention_policy="STORE_7_DAYS", output_expires_at=NOW - DAY)
        if job == cleanup_stuck_runs.name:
            hanging.run(validibot.submission(expires_at=None))
            hanging.left(validibot.submission(expires_at=None))
    validibot.submission(created=NOW - DAY)  # its deadline is wrong
    validibot.submission(expires_at=None)
    validibot.submission(expires_at=None, retention_policy="DO_NOT_STORE")
    validibot.run(None, output_retention_policy="STORE_7_DAYS", output_expires_at=None)


@pytest.mark.parametrize("job", list(JOBS))
@pytest.mark.parametrize(("batches", "size", "done"), [(1, 3, 3), (2, 2, 4), (1, 1, 1)])
def test_10_10_max_batches_counts_batches_of_the_work_itself(
    validibot: Validibot, job: str, batches: int, size: int, done: int
) -> None:
    make(validibot, job)
    parameters = {"as_of": NOW, "batch_size": size, "max_batches": batches}
    report = run(JOBS[job], **parameters)
    assert report.done - report.repaired.get(FOLLOWED_UP, 0) == done
    assert report.stopped_because == "max_batches"


def test_10_10_the_first_batch_has_the_size_that_was_asked_for(validibot: Validibot) -> None:
    for _ in range(40):
        validibot.submission()
    report = run(purge_expired_submissions, as_of=NOW, batch_size=32, max_batches=1)
    assert report.done == 32


@pytest.mark.parametrize("job", list(JOBS))
def test_10_10_without_time_for_repairs_the_work_is_done_and_the_report_says_so(
    validibot: Validibot, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    make(validibot, job)
    monkeypatch.setattr(budget, "SECONDARY_SHARE", 0.0)
    report = run(JOBS[job], as_of=NOW)
    assert report.done >= ITEMS
    assert report.repaired == {}
    assert report.stopped_because == "time_budget"
    assert any(one.endswith("its share of the time budget is used up") for one in report.warnings)


def test_10_10_a_dry_run_previews_all_of_the_work_whatever_the_batch_size(
    validibot: Validibot,
) -> None:
    make(validibot, purge_expired_submissions.name)
    small = run(purge_expired_submissions, as_of=NOW, dry_run=True, batch_size=1)
    large = run(purge_expired_submissions, as_of=NOW, dry_run=True)
    assert small.selected == large.selected >= ITEMS
    assert small.fingerprint == large.fingerprint
    assert len(validibot.rows(schema.submissions)) == ITEMS + 3
