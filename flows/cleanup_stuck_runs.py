"""cleanup-stuck-runs: time out validation runs that hang, and finalize them."""

from datetime import timedelta
from functools import partial
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.job import Job
from flows.parameters import AsOf, BatchSize, DryRun, MaxBatches, TimeBudget
from flows.run.perform import perform
from flows.run.run import Run
from flows.run.run_name import run_name
from maintenance.report import Report
from maintenance.settings import settings
from tasks.preflight import choose_run_cutoff
from tasks.stuck.runs import (
    StuckOptions,
    count_stuck_runs,
    find_runs_without_start,
    follow_up_earlier_runs,
    overdue_stuck_runs,
    preview_earlier_runs,
    preview_stuck_runs,
    time_out_stuck_runs,
)
from tasks.stuck.waiting import count_waiting_runs, find_old_continuations

DEFAULT_MINUTES = 30
TimeoutMinutes = Annotated[int, Field(ge=1, le=43_200)]


@flow(name="cleanup-stuck-runs", flow_run_name=run_name, validate_parameters=True)
def cleanup_stuck_runs(
    timeout_minutes: TimeoutMinutes = DEFAULT_MINUTES,
    dry_run: DryRun = False,
    as_of: AsOf = None,
    batch_size: BatchSize = None,
    time_budget: TimeBudget = None,
    max_batches: MaxBatches = None,
) -> Report:
    """Time out validation runs that hang.

    Selected: RUNNING runs with an active attempt whose deadline has passed; RUNNING runs without
    any deadline that started more than `timeout_minutes` before the cutoff; oldest first. A run
    with an active attempt whose deadline is in the future is never selected, whatever its age. A
    run with an unfinished continuation is counted as deferred: Validibot starts its next step, and
    its own command cleanup_stuck_runs redelivers what was lost. The report warns of continuations
    that are unfinished for longer than MAINTENANCE_CONTINUATION_MINUTES.

    Changed: the run becomes TIMED_OUT, with an error that says after how many minutes. The attempt
    that it waited for becomes TIMED_OUT too, or FAILED if it was never dispatched. Then the run's
    containers are stopped and removed, its evidence is written, its deadlines are computed, and
    the purge of its submission is queued if the submission must not be stored. If a crash
    interrupts this, the next run completes it.

    Never touched: runs that end by themselves in the meantime (a callback that comes first wins),
    runs that are not RUNNING, containers without Validibot's label. A run with neither a start nor
    a deadline is reported, and not changed. If the container engine cannot be reached, the report
    has a warning.

    Args:
        timeout_minutes: Minutes that a run may take if its attempts have no deadline of their own;
            1 to 43,200.
        dry_run: Only report what a run would do. Nothing is written or stopped.
        as_of: The moment to work up to, in UTC unless it has a zone. Empty: the database's current
            time. A moment in the future is allowed only in a dry run, as a forecast.
        batch_size: Maximum number of runs in a batch, 1 to 50,000. Batches adapt to their target
            time below this maximum. Empty: the worker's setting.
        time_budget: Seconds after which the run stops and leaves the rest to the next run; above 0,
            at most 86,400. Empty: the worker's setting, or 20 minutes.
        max_batches: Stop after this many batches; at least 1. Empty: no limit.
    """
    timeout = timedelta(minutes=timeout_minutes)
    options = StuckOptions(JOB.name, batch_size or settings().batch_size, timeout)
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
    run.report.cutoff = cutoff.as_of - timeout
    return perform(run, preview=_preview, work=_work)


def _preview(run: Run) -> None:
    run.drain(preview_stuck_runs)
    run.drain_secondary(preview_earlier_runs)
    run.drain_secondary(count_waiting_runs)
    _warn(run)


def _work(run: Run) -> None:
    run.drain(time_out_stuck_runs)
    run.drain_secondary(follow_up_earlier_runs)
    run.drain_secondary(count_waiting_runs)
    run.report.overdue = run.observe(count_stuck_runs, run.cutoff, run.options)
    _warn(run)


def _warn(run: Run) -> None:
    old = run.observe(find_old_continuations, run.cutoff, run.options)
    undecided = run.observe(find_runs_without_start, run.cutoff, run.options)
    run.warn([*(old or []), *(undecided or [])])


JOB = Job(
    cleanup_stuck_runs,
    schedule="*/10 * * * *",
    time_budget=timedelta(minutes=20),
    count_overdue=partial(overdue_stuck_runs, timeout=timedelta(minutes=DEFAULT_MINUTES)),
)
