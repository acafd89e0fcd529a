"""purge-expired-submissions: remove the content of submissions past their retention."""

from datetime import timedelta

from prefect import flow

from flows.job import Job
from flows.parameters import AsOf, BatchSize, DryRun, MaxBatches, TimeBudget
from flows.restores import refuse_restored_database, remember_what_was_stamped
from flows.run.perform import perform
from flows.run.run import Run
from flows.run.run_name import run_name
from maintenance.report import Report
from maintenance.settings import settings
from maintenance.storage.missing import FileCount
from tasks.preflight import choose_run_cutoff
from tasks.purge.options import PurgeOptions
from tasks.purge.submission_preview import preview_overdue, preview_undated
from tasks.purge.submissions import (
    count_overdue,
    overdue_submissions,
    purge_submissions,
    repair_overdue,
    repair_undated,
)


@flow(name="purge-expired-submissions", flow_run_name=run_name, validate_parameters=True)
def purge_expired_submissions(
    dry_run: DryRun = False,
    as_of: AsOf = None,
    batch_size: BatchSize = None,
    time_budget: TimeBudget = None,
    max_batches: MaxBatches = None,
    retry_failed: bool = False,
    accept_missing_files: bool = False,
) -> Report:
    """Remove the content of submissions past their retention.

    Selected: submissions with `expires_at` up to the cutoff that still have content, a finite
    retention policy and no active run; oldest first. Before that, wrong or missing deadlines are
    recomputed from the policy, and content that must not be stored is queued for
    process-purge-retries.

    Deleted: the uploaded file, the port files, and the inputs copied into the bundles of all runs
    of the submission, in both layouts. Cleared: name, content, file names and metadata of the
    submission, and the input values of its runs. Kept: checksum, size, file type, policy, all
    links, the outputs of its runs, and evidence.

    Never touched: permanent content, submissions with an active run, anything outside the storage
    roots. A submission whose purge fails keeps its content and is queued for process-purge-retries,
    which retries it with backoff. Until it is due there, this job skips it unless `retry_failed`
    is set.

    Args:
        dry_run: Only report what a run would do. Nothing is written or deleted.
        as_of: The moment to work up to, in UTC unless it has a zone. Empty: the database's current
            time. A moment in the future is allowed only in a dry run, as a forecast.
        batch_size: Maximum number of rows in a batch, 1 to 50,000. Batches adapt to their target
            time below this maximum. Empty: the worker's setting.
        time_budget: Seconds after which the run stops and leaves the rest to the next run; above 0,
            at most 86,400. Empty: the worker's setting, or 20 minutes.
        max_batches: Stop after this many batches; at least 1. Empty: no limit.
        retry_failed: Also purge submissions whose earlier purge failed and whose next attempt is
            not due yet. Use it after the cause was repaired.
        accept_missing_files: Continue although many files that rows name are missing, and none was
            found. Use it once, after you made sure that the storage is complete and mounted.
    """
    files = FileCount(accepted=accept_missing_files)
    rows = batch_size or settings().batch_size
    options = PurgeOptions(JOB.name, rows, retry_failed, files=files)
    cutoff = choose_run_cutoff(JOB.name, as_of, dry_run=dry_run)
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
    return perform(run, preview=_preview, work=_work)


def _preview(run: Run) -> None:
    refuse_restored_database(run)
    run.drain(preview_overdue)
    run.drain_secondary(preview_undated)


def _work(run: Run) -> None:
    look = refuse_restored_database(run)
    run.drain_secondary(repair_overdue)
    run.drain_secondary(repair_undated)
    run.drain(purge_submissions)
    run.drain(purge_submissions)  # again, for rows that were locked in the first pass
    remember_what_was_stamped(run, "submission", look)
    run.report.overdue = run.observe(count_overdue, run.cutoff, run.options)


JOB = Job(
    purge_expired_submissions,
    schedule="0 * * * *",
    time_budget=timedelta(minutes=20),
    count_overdue=overdue_submissions,
)
