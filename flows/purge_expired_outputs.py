"""purge-expired-outputs: remove findings, artifacts and files of runs past their retention."""

from datetime import timedelta

from prefect import flow

from flows.parameters import AsOf, BatchSize, DryRun, MaxBatches, TimeBudget
from flows.run.lifecycle import drain, finish, has_server, published, run_id, skip
from maintenance.budget import Budget
from maintenance.guard import guard
from maintenance.report import Report
from maintenance.settings import settings
from tasks.preflight import choose_run_cutoff
from tasks.purge.failure_history import count_failures
from tasks.purge.options import PurgeOptions
from tasks.purge.outputs import (
    count_overdue_outputs,
    preview_outputs,
    preview_undated_outputs,
    purge_outputs,
    purge_undated_outputs,
    repair_output_deadlines,
)

JOB = "purge-expired-outputs"
SCHEDULE = "0 * * * *"
TIME_BUDGET = timedelta(minutes=20)


@flow(name=JOB, validate_parameters=True)
def purge_expired_outputs(
    dry_run: DryRun = False,
    as_of: AsOf = None,
    batch_size: BatchSize = None,
    time_budget: TimeBudget = None,
    max_batches: MaxBatches = None,
) -> Report:
    """Remove findings, artifacts and files of runs past their output retention.

    Selected: runs that have ended and still have their outputs, and whose `output_expires_at` is
    up to the cutoff; those that must not be stored (or have an unknown policy) 60 seconds after
    their end; oldest first. Before, deadlines that ended runs lack are computed, and those of
    their submissions.

    Deleted: the files of all artifacts, the whole bundle in both layouts, the rows of findings
    and artifacts. Cleared: the outputs, values and errors of the run and its steps. Kept: status,
    category, timings, summaries, the evidence row and its manifest.

    Never touched: active runs, permanent outputs, anything outside the storage roots. A run whose
    purge fails is met again by the next scheduled run; after five in a row it raises an alert.

    Args:
        dry_run: Only say what a run would do. Nothing is written or deleted.
        as_of: The moment to work up to; UTC without a zone. Empty: the database's time now. A
            moment in the future is allowed in a dry run only, as a forecast.
        batch_size: Most rows of one batch, 1 to 50,000; batches adapt below it to their target
            time. Empty: the worker's setting.
        time_budget: Seconds after which the run stops and leaves the rest to the next one; above
            0, at most 86,400. Empty: the worker's setting, or 20 minutes.
        max_batches: Stop after so many batches; at least 1. Empty: no limit.
    """
    current = settings()
    cutoff = choose_run_cutoff(JOB, as_of, dry_run=dry_run)
    budget = Budget(time_budget or current.time_budget(TIME_BUDGET), max_batches)
    options = PurgeOptions(JOB, batch_size or current.batch_size)
    report = Report(job=JOB, dry_run=dry_run, as_of=cutoff.as_of)
    if dry_run:
        with published(report):
            drain(preview_undated_outputs, cutoff, options, report, budget)
            drain(preview_outputs, cutoff, options, report, budget)
        return finish(report)
    with guard(current, JOB, run_id()) as held:
        if not held.acquired:
            return skip(report, held)
        with published(report):
            drain(repair_output_deadlines, cutoff, options, report, budget, held)
            drain(purge_outputs, cutoff, options, report, budget, held)
            drain(purge_undated_outputs, cutoff, options, report, budget, held)
            report.overdue = count_overdue_outputs(cutoff, options)
            if has_server():
                report.alerts = count_failures(JOB, report.failed_items)
    return finish(report)
