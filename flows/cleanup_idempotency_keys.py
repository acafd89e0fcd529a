"""cleanup-idempotency-keys: delete expired idempotency keys of the API."""

from datetime import timedelta

from prefect import flow

from flows.parameters import AsOf, DeleteBatchSize, DryRun, MaxBatches, TimeBudget
from flows.run.lifecycle import drain, finish, published, run_id, skip
from maintenance.budget import Budget
from maintenance.expiring import IDEMPOTENCY_KEYS
from maintenance.guard import guard
from maintenance.report import Report
from maintenance.settings import settings
from tasks.expiry.expired_rows import (
    DeleteOptions,
    check_indexes,
    count_expired,
    delete_expired,
    preview_expired,
)
from tasks.preflight import choose_run_cutoff

JOB = "cleanup-idempotency-keys"
SCHEDULE = "0 3 * * *"
TIME_BUDGET = timedelta(minutes=20)


@flow(name=JOB, validate_parameters=True)
def cleanup_idempotency_keys(
    dry_run: DryRun = False,
    as_of: AsOf = None,
    batch_size: DeleteBatchSize = None,
    time_budget: TimeBudget = None,
    max_batches: MaxBatches = None,
) -> Report:
    """Delete expired idempotency keys of the API.

    Deleted: rows of `core_idempotencykey` with `expires_at` before the cutoff, whatever their
    status, in batches that adapt to a target time. A row that expires exactly at the cutoff stays.

    Never touched: keys that are still valid, every other table. Rows that somebody has locked are
    met again at the end, and then left for the next run. While the database is not well (standbys
    behind, sessions waiting for locks, a vacuum against wraparound) the run slows down or waits.

    Args:
        dry_run: Only say what a run would do. Nothing is written or deleted.
        as_of: The moment to work up to; UTC without a zone. Empty: the database's time now. A
            moment in the future is allowed in a dry run only, as a forecast.
        batch_size: Most rows of one batch, 1 to 1,000,000; batches adapt below it to their target
            time. Empty: the worker's setting.
        time_budget: Seconds after which the run stops and leaves the rest to the next one; above
            0, at most 86,400. Empty: the worker's setting, or 20 minutes.
        max_batches: Stop after so many batches; at least 1. Empty: no limit.
    """
    current = settings()
    cutoff = choose_run_cutoff(JOB, as_of, dry_run=dry_run)
    budget = Budget(time_budget or current.time_budget(TIME_BUDGET), max_batches)
    options = DeleteOptions(JOB, IDEMPOTENCY_KEYS, batch_size or current.delete_batch_size)
    report = Report(job=JOB, dry_run=dry_run, as_of=cutoff.as_of, cutoff=options.limit(cutoff))
    report.warnings += check_indexes(options)
    if dry_run:
        with published(report):
            drain(preview_expired, cutoff, options, report, budget)
        return finish(report)
    with guard(current, JOB, run_id()) as held:
        if not held.acquired:
            return skip(report, held)
        with published(report):
            reached = drain(delete_expired, cutoff, options, report, budget, held)
            report.overdue = count_expired(cutoff, options, reached)
    return finish(report)
