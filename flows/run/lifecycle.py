"""The pieces that every job calls by name: drain, published report, and the state at the end."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

from prefect import Task
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import Abort
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed

from flows.run.events import emit_events
from flows.run.rerun_limit import refuse_endless_reruns
from flows.run.success_ping import is_success, ping
from flows.run.takeover import take_over
from maintenance import stop_request
from maintenance.budget import Budget
from maintenance.cutoff import Cutoff
from maintenance.errors import MaintenanceError
from maintenance.guard import Guard, is_held
from maintenance.report import Report, StopReason
from maintenance.settings import settings
from maintenance.transient import is_transient
from tasks.batching.slices import Slice
from tasks.reporting import publish_report

ITEMS_FAILED = "ItemsFailed"
"""Name of the Failed state of a run that did its work but for some items."""

SKIPPED = "Skipped"
"""Name of the Completed state of a run that found the job held by another one."""

LOGGER = "maintenance"
"""Name of the logger that is used outside a Prefect run."""

Log = logging.Logger | logging.LoggerAdapter[Any]


class UnfinishedRun(MaintenanceError):
    """A run did not do all of its work; `report` says what it did."""

    def __init__(self, report: Report) -> None:
        """Keep the report."""
        super().__init__(report.summary())
        self.report = report


class ItemsFailed(UnfinishedRun):
    """Some items of a run failed; `report` says which and why."""


class RunStopped(UnfinishedRun):
    """Somebody asked the run to stop, and it did."""


def run_id() -> UUID | None:
    """Return the identifier of this flow run, None outside a Prefect run."""
    context = FlowRunContext.get()
    return context.flow_run.id if context and context.flow_run else None


def has_server() -> bool:
    """Return whether this run is one that a Prefect server keeps."""
    return FlowRunContext.get() is not None


def run_logger() -> Log:
    """Return the run's logger, which Prefect keeps; a plain one outside a Prefect run."""
    return get_run_logger() if has_server() else logging.getLogger(LOGGER)


def drain(
    step: Task[..., Slice[Any]],
    cutoff: Cutoff,
    options: object,
    report: Report,
    budget: Budget,
    guard: Guard | None = None,
) -> Any:  # noqa: ANN401 - each task has a cursor of its own kind
    """Repeat a task slice by slice until nothing is left or the budget is used up.

    Returns:
        Where the last slice came to; None when there was none.

    Raises:
        StopRequested: somebody asked the run to stop; `published` takes it up.
        GuardLost: another run may have started.
        Exception: whatever the task raised after its retries.
    """
    log = run_logger()
    cursor = None
    while True:
        stop_request.check()
        stop = budget.exhausted_by
        if stop is not None:
            report.stopped_because = StopReason(stop)
            return cursor
        if guard is not None:
            guard.check()
        done = step(cutoff, cursor, budget.slice(), options)
        report.add(done.result)
        budget.spend(done.result.batches)
        if done.interrupted:
            report.warnings.append(
                f"{step.name}: interrupted and taken up again: {done.interrupted}"
            )
        if done.result.selected or done.result.repaired:
            log.info(
                "%s: %s selected, %s done, %s failed so far",
                step.name,
                f"{report.selected:,}",
                f"{report.done:,}",
                f"{report.failed:,}",
                extra={"action": "slice", "job": report.job, "selected": report.selected},
            )
        cursor = done.cursor
        if done.exhausted:
            return cursor


@contextmanager
def published(report: Report) -> Iterator[None]:
    """Publish the report however the block ends, with the time it took.

    An error of the block is written into the report and raised on. A request to stop ends the
    block, and no error: `finish` says Cancelled. A second signal ends the run at once, without a
    report. What the Prefect server or the pinged service does not take is a warning: the work is
    done, and the state says so.
    """
    started = time.monotonic()
    with stop_request.stoppable():
        try:
            refuse_endless_reruns()
            _succeed(report)
            yield
        except stop_request.StopRequested:
            report.stopped_because = StopReason.CANCELLED
        except Exception as error:
            if not (stop_request.requested() and is_transient(error)):
                report.stopped_because = StopReason.ERROR
                report.message = f"{type(error).__name__}: {error}"
                _publish(report, started)
                _emit(report)
                raise
            # It would be tried again, were it not for the request.
            report.stopped_because = StopReason.CANCELLED
            report.warnings.append(f"stopped instead of trying again: {error}")
        _publish(report, started)
        _tell_success(report)


def _publish(report: Report, started: float) -> None:
    stop_request.begin_work()  # a request comes too late to cut this short
    report.duration_seconds = time.monotonic() - started
    run_logger().info("%s", report.summary(), extra={"action": "report", "job": report.job})
    if has_server():
        try:
            publish_report(report)
        except Exception as error:  # noqa: BLE001 - the report must not fail the run
            run_logger().warning("the report could not be stored as an artifact: %s", error)


def _succeed(report: Report) -> None:
    """Take over from runs of the job whose process is gone, in a run that holds its guard."""
    if report.dry_run or not is_held(report.job):
        return
    try:
        for gone in take_over():
            run_logger().warning("took over from %s, whose process is gone", gone.id)
    except Exception as error:  # noqa: BLE001 - what other runs say is no reason not to work
        run_logger().warning("other runs of the job could not be looked at: %s", error)


def _emit(report: Report) -> None:
    if has_server():
        try:
            emit_events(report)
        except Exception as error:  # noqa: BLE001 - nor is an event that cannot be sent
            run_logger().warning("the run's events could not be sent: %s", error)


def _tell_success(report: Report) -> None:
    address = settings().success_ping_url
    if address is not None and is_success(report):
        problem = ping(address.get_secret_value(), report.job)
        if problem is not None:
            run_logger().warning("%s", problem, extra={"action": "ping", "job": report.job})


def finish(report: Report) -> Report:
    """Return what a run ends in: a state that carries the report (SPEC 2.7).

    Prefect takes a returned state as the state of the run, and hands the report to whoever called
    the flow (or raises an `UnfinishedRun`, which carries it).

    All done: Completed with a one-line summary. Items failed: Failed, named ItemsFailed, so that
    the run is red and can be found by its state. Held by another run: Completed, named Skipped.
    Asked to stop: Cancelled.
    """
    _emit(report)
    state: State[Any] = Completed(message=report.summary(), data=report)
    if report.cancelled:
        state = Cancelled(message=report.summary(), data=RunStopped(report))
    elif report.items_failed:
        state = Failed(name=ITEMS_FAILED, message=report.summary(), data=ItemsFailed(report))
    elif report.stopped_because is StopReason.SKIPPED:
        state = Completed(name=SKIPPED, message=report.summary(), data=report)
    return cast("Report", state)


def idle(report: Report, reason: str) -> Report:
    """Return what a run ends in that can have nothing to do here; it takes over all the same."""
    _succeed(report)
    report.stopped_because, report.message = StopReason.SKIPPED, reason
    run_logger().info("%s", report.summary(), extra={"action": "idle", "job": report.job})
    return finish(report)


def skip(report: Report, guard: Guard) -> Report:
    """Return what a run ends in that found the job held by another one (SPEC 2.8).

    Raises:
        Abort: the other one is an earlier process of this very run, which was taken for dead and
            started again. It is at work and will say how the run ends, so this process leaves
            without a word: Prefect keeps the run's state.
    """
    ours = run_id()
    if guard.holder and ours is not None and guard.holder.run_id == ours:
        message = f"an earlier process of this run is at work: {guard.holder}"
        run_logger().warning("%s", message, extra={"action": "leave", "job": report.job})
        raise Abort(message)
    report.stopped_because = StopReason.SKIPPED
    report.message = str(guard.holder)
    run_logger().info("%s", report.summary(), extra={"action": "skip", "job": report.job})
    return finish(report)
