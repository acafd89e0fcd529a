"""cleanup-callback-receipts: delete old receipts of validators' callbacks."""

from datetime import timedelta
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.parameters import AsOf, DeleteBatchSize, DryRun, MaxBatches, TimeBudget
from flows.run.lifecycle import drain, finish, published, run_id, skip
from maintenance.budget import Budget
from maintenance.expiring import CALLBACK_RECEIPTS, whole_days
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

JOB = "cleanup-callback-receipts"
SCHEDULE = "0 4 * * 0"
TIME_BUDGET = timedelta(minutes=20)
DEFAULT_DAYS = CALLBACK_RECEIPTS.age.days
Days = Annotated[int, Field(ge=0, le=36_500)]


@flow(name=JOB, validate_parameters=True)
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
    at the cutoff stays.

    Never touched: receipts of active runs, which keep a callback from being taken twice, whatever
    their age; every other table. Rows that somebody has locked are met again at the end, and then
    left for the next run. While the database is not well (standbys behind, sessions waiting for
    locks, a vacuum against wraparound) the run slows down or waits.

    Args:
        days: Age in whole days from which receipts go; at most 36,500. Below 1 needs
            `allow_recent`.
        dry_run: Only say what a run would do. Nothing is written or deleted.
        as_of: The moment to work up to; UTC without a zone. Empty: the database's time now. A
            moment in the future is allowed in a dry run only, as a forecast.
        batch_size: Most rows of one batch, 1 to 1,000,000; batches adapt below it to their target
            time. Empty: the worker's setting.
        time_budget: Seconds after which the run stops and leaves the rest to the next one; above
            0, at most 86,400. Empty: the worker's setting, or 20 minutes.
        max_batches: Stop after so many batches; at least 1. Empty: no limit.
        allow_recent: Allow `days` below 1, so that receipts of today go, too. A callback that
            is delivered again after that is taken for a new one.
    """
    age = whole_days(days, allow_recent=allow_recent)
    current = settings()
    cutoff = choose_run_cutoff(JOB, as_of, dry_run=dry_run)
    budget = Budget(time_budget or current.time_budget(TIME_BUDGET), max_batches)
    rows = batch_size or current.delete_batch_size
    options = DeleteOptions(JOB, CALLBACK_RECEIPTS, rows, age)
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
