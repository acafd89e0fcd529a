"""cleanup-stuck-runs: end runs that hang, and finish what belongs to their end."""

from datetime import timedelta
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.parameters import AsOf, BatchSize, DryRun, MaxBatches, TimeBudget
from flows.run.lifecycle import drain, finish, published, run_id, skip
from maintenance.budget import Budget
from maintenance.guard import guard
from maintenance.report import Report
from maintenance.settings import settings
from tasks.preflight import choose_run_cutoff
from tasks.stuck.runs import (
    StuckOptions,
    count_stuck_runs,
    find_runs_without_start,
    follow_up_earlier_runs,
    preview_earlier_runs,
    preview_stuck_runs,
    time_out_stuck_runs,
)

JOB = "cleanup-stuck-runs"
SCHEDULE = "*/10 * * * *"
TIME_BUDGET = timedelta(minutes=20)
DEFAULT_MINUTES = 30
TimeoutMinutes = Annotated[int, Field(ge=1, le=43_200)]


@flow(name=JOB, validate_parameters=True)
def cleanup_stuck_runs(
    timeout_minutes: TimeoutMinutes = DEFAULT_MINUTES,
    dry_run: DryRun = False,
    as_of: AsOf = None,
    batch_size: BatchSize = None,
    time_budget: TimeBudget = None,
    max_batches: MaxBatches = None,
) -> Report:
    """End runs that hang.

    Selected: RUNNING runs of which an active attempt has a deadline that has passed; and those
    without any deadline that started more than `timeout_minutes` before the cutoff; oldest first.
    A run whose active attempt has a deadline in the future goes on, whatever its age.

    Changed: the run becomes TIMED_OUT, with an error that says after how many minutes; so does the
    attempt that it waited for (one that was never dispatched becomes FAILED). Then its containers
    are stopped and removed, its evidence is written, its deadlines are computed, and the purge of
    its submission is queued when nothing of it must be stored. What a crash left unfinished of
    that is finished by the next run.

    Never touched: runs that end by themselves meanwhile (a callback that comes first wins), runs
    that are not RUNNING, containers without Validibot's label. A run without a start and without
    a deadline is reported, and goes on. An engine that is away is a warning.

    Args:
        timeout_minutes: Minutes that a run may last whose attempts have no deadline of their own;
            1 to 43,200.
        dry_run: Only say what a run would do. Nothing is written or stopped.
        as_of: The moment to work up to; UTC without a zone. Empty: the database's time now. A
            moment in the future is allowed in a dry run only, as a forecast.
        batch_size: Most runs of one batch, 1 to 50,000; batches adapt below it to their target
            time. Empty: the worker's setting.
        time_budget: Seconds after which the run stops and leaves the rest to the next one; above
            0, at most 86,400. Empty: the worker's setting, or 20 minutes.
        max_batches: Stop after so many batches; at least 1. Empty: no limit.
    """
    current = settings()
    cutoff = choose_run_cutoff(JOB, as_of, dry_run=dry_run)
    budget = Budget(time_budget or current.time_budget(TIME_BUDGET), max_batches)
    timeout = timedelta(minutes=timeout_minutes)
    options = StuckOptions(JOB, batch_size or current.batch_size, timeout)
    report = Report(job=JOB, dry_run=dry_run, as_of=cutoff.as_of, cutoff=cutoff.as_of - timeout)
    if dry_run:
        with published(report):
            drain(preview_stuck_runs, cutoff, options, report, budget)
            drain(preview_earlier_runs, cutoff, options, report, budget)
            report.warnings += find_runs_without_start(cutoff, options)
        return finish(report)
    with guard(current, JOB, run_id()) as held:
        if not held.acquired:
            return skip(report, held)
        with published(report):
            drain(time_out_stuck_runs, cutoff, options, report, budget, held)
            drain(follow_up_earlier_runs, cutoff, options, report, budget, held)
            report.overdue = count_stuck_runs(cutoff, options)
            report.warnings += find_runs_without_start(cutoff, options)
    return finish(report)
