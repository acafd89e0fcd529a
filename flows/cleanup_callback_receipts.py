"""cleanup-callback-receipts: delete old receipts of validators' callbacks."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.deletion_by_age import delete_by_age, deletion_job
from flows.parameters import AsOf, DeleteBatchSize, DryRun, MaxBatches, TimeBudget
from flows.run.run import Run
from flows.run.run_name import run_name
from maintenance.expiring import CALLBACK_RECEIPTS, whole_days
from maintenance.report import Report
from maintenance.settings import settings
from tasks.expiry.expired_rows import DeleteOptions
from tasks.preflight import choose_run_cutoff

DEFAULT_DAYS = CALLBACK_RECEIPTS.age.days
Days = Annotated[int, Field(ge=0, le=36_500)]


@flow(name="cleanup-callback-receipts", flow_run_name=run_name, validate_parameters=True)
def cleanup_callback_receipts(
    days: Days = DEFAULT_DAYS,
    dry_run: DryRun = False,
    as_of: AsOf = None,
    batch_size: DeleteBatchSize = None,
    time_budget: TimeBudget = None,
    max_batches: MaxBatches = None,
    allow_recent: bool = False,
) -> Report:
    """Delete callback receipts older than 30 days.

    Deleted: rows of `validations_callbackreceipt` with `received_at` before the cutoff, which is
    `days` before `as_of`, in batches that adapt to a target time. A row that was received exactly
    at the cutoff is kept.

    Never touched: receipts of active runs, whatever their age, because they prevent a callback
    from being accepted twice; every other table. Rows that are locked are tried again at the end,
    and then left to the next run. While the database is under strain (standbys lag, sessions wait
    for locks, a vacuum prevents wraparound), the run slows down or waits.

    Args:
        days: Age in whole days from which receipts are deleted; at most 36,500. A value below 1
            needs `allow_recent`.
        dry_run: Only report what a run would do. Nothing is written or deleted.
        as_of: The moment to work up to, in UTC unless it has a zone. Empty: the database's current
            time. A moment in the future is allowed only in a dry run, as a forecast.
        batch_size: Maximum number of rows in a batch, 1 to 1,000,000. Batches adapt to their target
            time below this maximum. Empty: the worker's setting.
        time_budget: Seconds after which the run stops and leaves the rest to the next run; above 0,
            at most 86,400. Empty: the worker's setting, or 20 minutes.
        max_batches: Stop after this many batches; at least 1. Empty: no limit.
        allow_recent: Allow `days` below 1, so that receipts of today are deleted too. A callback
            that is delivered again afterwards is accepted as a new one.
    """
    age = whole_days(days, allow_recent=allow_recent)
    rows = batch_size or settings().delete_batch_size
    options = DeleteOptions(JOB.name, CALLBACK_RECEIPTS, rows, age)
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
    return delete_by_age(run)


JOB = deletion_job(cleanup_callback_receipts, "0 4 * * 0", CALLBACK_RECEIPTS)
