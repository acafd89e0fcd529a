"""process-purge-retries: purge the queue: do-not-store content and earlier failures."""

from datetime import timedelta

from prefect import flow

from flows.job import Job
from flows.parameters import AsOf, BatchSize, DryRun, MaxBatches, TimeBudget
from flows.restores import refuse_restored_database, remember_what_was_stamped
from flows.run.perform import perform
from flows.run.prefect_context import has_server
from flows.run.run import Run
from flows.run.run_name import run_name
from maintenance.report import Report, StopReason
from maintenance.settings import settings
from maintenance.storage.missing import FileCount
from tasks.preflight import choose_run_cutoff
from tasks.purge.discovery_history import is_discovery_due, note_discovery
from tasks.purge.options import PurgeOptions
from tasks.purge.queued_submissions import (
    count_queued,
    discover_unqueued,
    overdue_queue,
    preview_queued,
    preview_unqueued,
    purge_queued,
)
from tasks.retrying import SHORT_BACKOFF

choose_cutoff = choose_run_cutoff.with_options(retry_delay_seconds=SHORT_BACKOFF)


@flow(name="process-purge-retries", flow_run_name=run_name, validate_parameters=True)
def process_purge_retries(
    dry_run: DryRun = False,
    as_of: AsOf = None,
    batch_size: BatchSize = None,
    time_budget: TimeBudget = None,
    max_batches: MaxBatches = None,
    accept_missing_files: bool = False,
) -> Report:
    """Purge queued submissions: content that must not be stored, and earlier failures.

    Selected: rows of `submissions_purgeretry` that are due at the cutoff; oldest first. Before
    that, at most once an hour, submissions with the policy DO_NOT_STORE, or an unknown one, that
    are missing from the queue are added to it, if they have been run or are at least an hour old,
    and have no active run.

    Deleted and cleared: the same as by purge-expired-submissions, whatever the policy is now; a
    queued row is purged. After the purge, the row is removed from the queue. A submission with an
    active run is due again in five minutes. After a failure the next attempt waits 1 minute, then
    5 minutes, 1 hour, 6 hours, and 24 hours from then on, without end; five failed attempts raise
    an alert.

    Never touched: submissions with an active run, anything outside the storage roots.

    Args:
        dry_run: Only report what a run would do. Nothing is written or deleted.
        as_of: The moment to work up to, in UTC unless it has a zone. Empty: the database's current
            time. A moment in the future is allowed only in a dry run, as a forecast.
        batch_size: Maximum number of rows in a batch, 1 to 50,000. Batches adapt to their target
            time below this maximum. Empty: the worker's setting.
        time_budget: Seconds after which the run stops and leaves the rest to the next run; above 0,
            at most 86,400. Empty: the worker's setting, or 4 minutes.
        max_batches: Stop after this many batches; at least 1. Empty: no limit.
        accept_missing_files: Continue although many files that rows name are missing, and none was
            found. Use it once, after you made sure that the storage is complete and mounted.
    """
    files = FileCount(accepted=accept_missing_files)
    options = PurgeOptions(JOB.name, batch_size or settings().batch_size, files=files)
    cutoff = choose_cutoff(JOB.name, as_of, dry_run=dry_run)
    budget = JOB.budget(time_budget, max_batches)
    run = Run(
        JOB.name,
        cutoff,
        options,
        budget,
        dry_run,
        first_rows=batch_size,
        count_overdue=JOB.count_overdue,
    )
    return perform(run, preview=_preview, work=_work, backoff=SHORT_BACKOFF)


def _preview(run: Run) -> None:
    refuse_restored_database(run)
    run.drain_secondary(preview_unqueued)
    run.drain(preview_queued)


def _work(run: Run) -> None:
    look = refuse_restored_database(run)
    _discover(run)
    run.drain(purge_queued)
    run.drain(purge_queued)  # again, for rows that were locked in the first pass
    remember_what_was_stamped(run, "submission", look)
    counted = run.observe(count_queued, run.cutoff, run.options)
    if counted is not None:
        run.report.overdue, run.report.alerts = counted


def _discover(run: Run) -> None:
    """Search the whole table for what must be queued, at most once an hour."""
    if not has_server():  # the time of the last search is kept there
        run.drain_secondary(discover_unqueued)
    elif is_discovery_due(run.job, run.cutoff.started_at):
        run.drain_secondary(discover_unqueued)
        if run.report.stopped_because is StopReason.DRAINED:
            note_discovery(run.job, run.cutoff.started_at)


JOB = Job(
    process_purge_retries,
    schedule="*/5 * * * *",
    time_budget=timedelta(minutes=4),
    time_limit=timedelta(minutes=8),
    count_overdue=overdue_queue,
)
