"""cleanup-idempotency-keys: delete expired idempotency keys of the API."""

from prefect import flow

from flows.deletion_by_age import delete_by_age, deletion_job
from flows.parameters import AsOf, DeleteBatchSize, DryRun, MaxBatches, TimeBudget
from flows.run.run import Run
from flows.run.run_name import run_name
from maintenance.expiring import IDEMPOTENCY_KEYS
from maintenance.report import Report
from maintenance.settings import settings
from tasks.expiry.expired_rows import DeleteOptions
from tasks.preflight import choose_run_cutoff


@flow(name="cleanup-idempotency-keys", flow_run_name=run_name, validate_parameters=True)
def cleanup_idempotency_keys(
    dry_run: DryRun = False,
    as_of: AsOf = None,
    batch_size: DeleteBatchSize = None,
    time_budget: TimeBudget = None,
    max_batches: MaxBatches = None,
) -> Report:
    """Delete expired idempotency keys of the API.

    Deleted: rows of `core_idempotencykey` with `expires_at` before the cutoff, whatever their
    status, in batches that adapt to a target time. A row that expires exactly at the cutoff is
    kept.

    Never touched: keys that are still valid, every other table. Rows that are locked are tried
    again at the end, and then left to the next run. While the database is under strain (standbys
    lag, sessions wait for locks, a vacuum prevents wraparound), the run slows down or waits.

    Args:
        dry_run: Only report what a run would do. Nothing is written or deleted.
        as_of: The moment to work up to, in UTC unless it has a zone. Empty: the database's current
            time. A moment in the future is allowed only in a dry run, as a forecast.
        batch_size: Maximum number of rows in a batch, 1 to 1,000,000. Batches adapt to their target
            time below this maximum. Empty: the worker's setting.
        time_budget: Seconds after which the run stops and leaves the rest to the next run; above 0,
            at most 86,400. Empty: the worker's setting, or 20 minutes.
        max_batches: Stop after this many batches; at least 1. Empty: no limit.
    """
    rows = batch_size or settings().delete_batch_size
    options = DeleteOptions(JOB.name, IDEMPOTENCY_KEYS, rows)
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


JOB = deletion_job(cleanup_idempotency_keys, "0 3 * * *", IDEMPOTENCY_KEYS)
