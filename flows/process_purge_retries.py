"""process-purge-retries: purge what is queued, do-not-store content and earlier failures."""

from datetime import timedelta

from prefect import flow

from flows.parameters import AsOf, BatchSize, DryRun, MaxBatches, TimeBudget
from flows.run.lifecycle import drain, finish, published, run_id, skip
from maintenance.budget import Budget
from maintenance.guard import guard
from maintenance.report import Report
from maintenance.settings import settings
from tasks.preflight import choose_run_cutoff
from tasks.purge.options import PurgeOptions
from tasks.purge.queued_submissions import (
    count_queued,
    discover_unqueued,
    preview_queued,
    preview_unqueued,
    purge_queued,
)
from tasks.retrying import SHORT_BACKOFF

JOB = "process-purge-retries"
SCHEDULE = "*/5 * * * *"
TIME_BUDGET = timedelta(minutes=4)


@flow(name=JOB, validate_parameters=True)
def process_purge_retries(
    dry_run: DryRun = False,
    as_of: AsOf = None,
    batch_size: BatchSize = None,
    time_budget: TimeBudget = None,
    max_batches: MaxBatches = None,
) -> Report:
    """Purge what is queued: content that must not be stored, and earlier failures.

    Selected: rows of `submissions_purgeretry` that are due at the cutoff; oldest first. Before,
    submissions of the policy DO_NOT_STORE (or an unknown one) that nobody has queued are: those
    that have run, or are older than an hour, and have no active run.

    Deleted and cleared: the same as by purge-expired-submissions, whatever the policy says now; a
    queued row is purged. The row of a submission that is purged goes. A submission with an active
    run comes again in five minutes. A failure waits 1 minute, 5 minutes, 1 hour, 6 hours and then
    24 hours between attempts, for ever; five failed attempts raise an alert.

    Never touched: submissions with an active run, anything outside the storage roots.

    Args:
        dry_run: Only say what a run would do. Nothing is written or deleted.
        as_of: The moment to work up to; UTC without a zone. Empty: the database's time now. A
            moment in the future is allowed in a dry run only, as a forecast.
        batch_size: Most rows of one batch, 1 to 50,000; batches adapt below it to their target
            time. Empty: the worker's setting.
        time_budget: Seconds after which the run stops and leaves the rest to the next one; above
            0, at most 86,400. Empty: the worker's setting, or 4 minutes.
        max_batches: Stop after so many batches; at least 1. Empty: no limit.
    """
    current = settings()
    choose = choose_run_cutoff.with_options(retry_delay_seconds=SHORT_BACKOFF)
    cutoff = choose(JOB, as_of, dry_run=dry_run)
    budget = Budget(time_budget or current.time_budget(TIME_BUDGET), max_batches)
    options = PurgeOptions(JOB, batch_size or current.batch_size)
    report = Report(job=JOB, dry_run=dry_run, as_of=cutoff.as_of)
    if dry_run:
        with published(report):
            drain(preview_unqueued, cutoff, options, report, budget)
            drain(preview_queued, cutoff, options, report, budget)
        return finish(report)
    with guard(current, JOB, run_id()) as held:
        if not held.acquired:
            return skip(report, held)
        with published(report):
            drain(discover_unqueued, cutoff, options, report, budget, held)
            drain(purge_queued, cutoff, options, report, budget, held)
            # Once more from the start, for rows that somebody had locked meanwhile.
            drain(purge_queued, cutoff, options, report, budget, held)
            report.overdue, report.alerts = count_queued(cutoff, options)
    return finish(report)
