"""purge-expired-submissions: remove the content of submissions past their retention."""

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
from tasks.purge.submission_preview import preview_overdue, preview_undated
from tasks.purge.submissions import (
    count_overdue,
    purge_submissions,
    repair_overdue,
    repair_undated,
)

JOB = "purge-expired-submissions"
SCHEDULE = "0 * * * *"
TIME_BUDGET = timedelta(minutes=20)


@flow(name=JOB, validate_parameters=True)
def purge_expired_submissions(
    dry_run: DryRun = False,
    as_of: AsOf = None,
    batch_size: BatchSize = None,
    time_budget: TimeBudget = None,
    max_batches: MaxBatches = None,
    retry_failed: bool = False,
) -> Report:
    """Remove the content of submissions past their retention.

    Selected: submissions with `expires_at` up to the cutoff that still have content, a finite
    retention policy and no active run; oldest first. Before, deadlines that are wrong or missing
    are recomputed from the policy, and content that must not be stored is queued for
    process-purge-retries.

    Deleted: the uploaded file, the port files, and the inputs copied into the bundles of all its
    runs, in both layouts. Cleared: name, content, file names and metadata of the submission, the
    input values of its runs. Kept: checksum, size, file type, policy, all links, the outputs of
    its runs, evidence.

    Never touched: permanent content, submissions with an active run, anything outside the storage
    roots. A submission whose purge fails stays, is queued with backoff, and is tried again by
    process-purge-retries; this job passes it by until then unless `retry_failed` is set.

    Args:
        dry_run: Only say what a run would do. Nothing is written or deleted.
        as_of: The moment to work up to; UTC without a zone. Empty: the database's time now. A
            moment in the future is allowed in a dry run only, as a forecast.
        batch_size: Most rows of one batch, 1 to 50,000; batches adapt below it to their target
            time. Empty: the worker's setting.
        time_budget: Seconds after which the run stops and leaves the rest to the next one; above
            0, at most 86,400. Empty: the worker's setting, or 20 minutes.
        max_batches: Stop after so many batches; at least 1. Empty: no limit.
        retry_failed: Also try submissions whose earlier purge failed and whose next attempt is
            not due yet; useful after the cause was mended.
    """
    current = settings()
    cutoff = choose_run_cutoff(JOB, as_of, dry_run=dry_run)
    budget = Budget(time_budget or current.time_budget(TIME_BUDGET), max_batches)
    options = PurgeOptions(JOB, batch_size or current.batch_size, retry_failed)
    report = Report(job=JOB, dry_run=dry_run, as_of=cutoff.as_of)
    if dry_run:
        with published(report):
            drain(preview_overdue, cutoff, options, report, budget)
            drain(preview_undated, cutoff, options, report, budget)
        return finish(report)
    with guard(current, JOB, run_id()) as held:
        if not held.acquired:
            return skip(report, held)
        with published(report):
            drain(repair_overdue, cutoff, options, report, budget, held)
            drain(repair_undated, cutoff, options, report, budget, held)
            drain(purge_submissions, cutoff, options, report, budget, held)
            # Once more from the start, for rows that somebody had locked meanwhile.
            drain(purge_submissions, cutoff, options, report, budget, held)
            report.overdue = count_overdue(cutoff, options)
    return finish(report)
