"""The frame around a job's steps: guard, report, events, final state."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import cast

from prefect.exceptions import Abort

from flows.run.final_state import final_state
from flows.run.prefect_context import run_id, run_logger
from flows.run.publishing import emit, published
from flows.run.rerun_limit import refuse_endless_reruns
from flows.run.run import Run
from flows.run.takeover import take_over
from maintenance.guard import guard
from maintenance.report import Report, StopReason
from maintenance.settings import settings

Steps = Callable[[Run], None]


def perform(
    run: Run, preview: Steps, work: Steps, *, idle_because: str | None = None, guarded: bool = True
) -> Report:
    """Preview the run's work in a dry run, otherwise do it under the job's guard.

    Args:
        run: the run.
        preview: the steps of a dry run.
        work: the steps of any other run.
        idle_because: why the job has nothing to work on in this deployment. The run then ends as
            Skipped without its steps.
        guarded: whether to take the guard; False when the database cannot be reached.

    Returns:
        The run's final state, which Prefect turns into the report or raises (`final_state`).

    Raises:
        Exception: a step failed. The report has been published.
    """
    if run.dry_run:
        _carry_out(run, preview, idle_because)
    else:
        with guard(settings(), run.job, run_id()) if guarded else nullcontext() as run.guard:
            if run.guard is None or run.guard.acquired:
                _carry_out(run, work, idle_because)
            else:
                _give_way(run)
    emit(run.report)
    return cast("Report", final_state(run.report))


def _carry_out(run: Run, steps: Steps, idle_because: str | None) -> None:
    if idle_because is not None:
        _take_over(run)
        _skip(run, idle_because)
        return
    with published(run.report):
        refuse_endless_reruns()
        _take_over(run)
        steps(run)


def _take_over(run: Run) -> None:
    """Mark zombie runs of the job as Crashed, if this run holds the job's guard."""
    if run.guard is None:
        return
    try:
        for zombie in take_over():
            run_logger().warning("took over from %s, whose process is gone", zombie.id)
    except Exception as error:  # noqa: BLE001 - the run's own work does not depend on other runs
        run_logger().warning("other runs of the job could not be checked: %s", error)


def _give_way(run: Run) -> None:
    """End as Skipped, because another run holds the job's guard (SPEC 2.8).

    Raises:
        Abort: the holder is an earlier process of this same flow run, which was taken for dead and
            restarted. It is still at work and will set the run's final state, so this process
            must exit without setting one.
    """
    assert run.guard is not None  # noqa: S101 - only a run with a guard gives way
    holder = run.guard.holder
    if holder and holder.run_id is not None and holder.run_id == run_id():
        message = f"an earlier process of this run is at work: {holder}"
        run_logger().warning("%s", message, extra={"action": "leave", "job": run.job})
        raise Abort(message)
    _skip(run, str(holder))


def _skip(run: Run, reason: str) -> None:
    run.report.stopped_because, run.report.message = StopReason.SKIPPED, reason
    run_logger().info("%s", run.report.summary(), extra={"action": "skip", "job": run.job})
