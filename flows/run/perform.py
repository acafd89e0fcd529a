"""The frame around a job's steps: guard, interruptions, report, events, final state."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import cast

from prefect.exceptions import Abort

from flows.run.beside_beat import look_for_beat
from flows.run.final_state import final_state
from flows.run.prefect_context import run_id, run_logger
from flows.run.publishing import emit, published
from flows.run.rerun_limit import refuse_endless_reruns
from flows.run.run import Run
from flows.run.takeover import take_over
from flows.run.time_limit import killed_after
from maintenance import stop_request
from maintenance.errors import GuardLost, TransientDatabaseError
from maintenance.guard import Guard, guard
from maintenance.report import Report, StopReason
from maintenance.settings import settings
from tasks.patience import tell_the_wait, waits_for
from tasks.retrying import BACKOFF

JITTER = 0.3
"""A wait is longer by up to this share, so that several jobs do not come back at once."""

Steps = Callable[[Run], None]


def perform(
    run: Run,
    preview: Steps,
    work: Steps,
    *,
    idle_because: str | None = None,
    guarded: bool = True,
    backoff: Sequence[float] = BACKOFF,
) -> Report:
    """Preview the run's work in a dry run, otherwise do it under the job's guard.

    Args:
        run: the run.
        preview: the steps of a dry run.
        work: the steps of any other run. They are called again after an interruption.
        idle_because: why the job has nothing to work on in this deployment. The run then ends as
            Skipped without its steps.
        guarded: whether to take the guard and look for Celery Beat; False when the database cannot
            be reached.
        backoff: seconds to wait before each attempt to take the guard again.

    Returns:
        The run's final state, which Prefect turns into the report or raises (`final_state`).

    Raises:
        Exception: a step failed. The report has been published.
    """
    steps = preview if run.dry_run else work
    with (
        killed_after(run.budget.limit_seconds),
        published(run.report),
        closing_progress(run),
    ):
        if guarded:
            look_for_beat(run)
        if run.dry_run or not guarded:
            _carry_out(run, steps, idle_because)
        else:
            _carry_out_guarded(run, steps, idle_because, backoff)
    emit(run.report)
    return cast("Report", final_state(run.report))


@contextmanager
def closing_progress(run: Run) -> Iterator[None]:
    """Run the block, and complete what shows the run's progress, however the block ends."""
    try:
        yield
    finally:
        run.progress.end(run.report)


def _carry_out_guarded(
    run: Run, steps: Steps, idle_because: str | None, backoff: Sequence[float]
) -> None:
    """Carry out the steps under the guard, and resume when its connection was lost (SPEC 10.9).

    Raises:
        GuardLost: the guard could not be taken again. The attempts are counted anew after each
            one that got work done.
    """
    waits = 0
    interruption: GuardLost | None = None
    while True:
        batches = run.report.batches
        try:
            with ExitStack() as stack:
                held = _take_guard(stack, run)
                if not held.acquired:
                    return _give_way(run, held)
                run.guard = held
                if interruption is not None:
                    run.warn([f"interrupted and resumed: {interruption}"])
                return _carry_out(run, steps, idle_because)
        except GuardLost as error:
            interruption = error
            waits = 0 if run.report.batches > batches else waits
            if waits == len(backoff) or not waits_for(error):
                raise
            _wait(run, backoff[waits], error)
            waits += 1
            run.begin_again()


def _take_guard(stack: ExitStack, run: Run) -> Guard:
    """Try to take the guard.

    Raises:
        GuardLost: the database cannot be reached, or it has not noticed yet that the connection
            is gone with which this run held the guard.
    """
    try:
        held = stack.enter_context(guard(settings(), run.job, run_id()))
    except TransientDatabaseError as error:
        raise GuardLost(f"the guard of {run.job} cannot be taken: {error}") from None
    ours = run.guard.pid if run.guard else None
    if held.holder and held.holder.pid == ours and held.holder.run_id == run_id():
        raise GuardLost(f"the lost connection of this run still holds the job: {held.holder}")
    return held


def _wait(run: Run, seconds: float, error: GuardLost) -> None:
    """Wait before the next attempt, at most until the end of the time budget."""
    stop_request.check()
    seconds = min(seconds * (1 + JITTER * random.random()), max(0.0, run.budget.seconds_left))  # noqa: S311 - no secret
    run_logger().warning("interrupted, the next attempt is in %.0f s: %s", seconds, error)
    tell_the_wait(error, seconds)
    stop_request.rest(seconds)
    stop_request.check()


def _carry_out(run: Run, steps: Steps, idle_because: str | None) -> None:
    if idle_because is None:
        refuse_endless_reruns()
    if run.guard is not None:
        _take_over()
    if idle_because is None:
        steps(run)
    else:
        _skip(run, idle_because)


def _take_over() -> None:
    """Mark zombie runs of the job as Crashed; this run holds the job's guard."""
    try:
        for zombie in take_over():
            run_logger().warning("took over from %s, whose process is gone", zombie.id)
    except Exception as error:  # noqa: BLE001 - the run's own work does not depend on other runs
        run_logger().warning("other runs of the job could not be checked: %s", error)


def _give_way(run: Run, held: Guard) -> None:
    """End as Skipped, because another run holds the job's guard (SPEC 2.8).

    Raises:
        Abort: the holder is an earlier process of this same flow run, which was taken for dead and
            restarted. It is still at work and will set the run's final state, so this process
            must exit without setting one.
    """
    holder = held.holder
    if holder and holder.run_id is not None and holder.run_id == run_id():
        message = f"an earlier process of this run is at work: {holder}"
        run_logger().warning("%s", message, extra={"action": "leave", "job": run.job})
        raise Abort(message)
    done = f"; this run was interrupted after {run.report.done:,} items" if run.guard else ""
    _skip(run, f"{holder}{done}")


def _skip(run: Run, reason: str) -> None:
    run.report.stopped_because, run.report.message = StopReason.SKIPPED, reason
    run_logger().info("%s", run.report.summary(), extra={"action": "skip", "job": run.job})
