"""Publishing a run's report: log, artifact, events, success ping."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from flows.run.events import emit_events
from flows.run.final_state import attach_report
from flows.run.prefect_context import has_server, run_logger
from flows.run.success_ping import is_success, ping
from maintenance import stop_request
from maintenance.report import Report, StopReason
from maintenance.settings import settings
from maintenance.transient import is_transient
from tasks.reporting import publish_report


@contextmanager
def published(report: Report) -> Iterator[None]:
    """Run the block, then publish the report with the time that the block took.

    An error of the block is written into the report and raised again. A stop request ends the
    block without an error, and the report says so. A second signal ends the process at once,
    without a report. When the Prefect server or the ping service refuses something, a warning is
    logged and the run's state stays as it is, because the work is done.
    """
    started = time.monotonic()
    with stop_request.stoppable():
        try:
            yield
        except stop_request.StopRequested:
            report.stopped_because = StopReason.CANCELLED
        except Exception as error:
            if not (stop_request.requested() and is_transient(error)):
                report.stopped_because = StopReason.ERROR
                report.message = f"{type(error).__name__}: {error}"
                attach_report(error, report)
                _publish(report, started)
                emit(report)
                raise
            # Without the stop request, the task would have been retried.
            report.stopped_because = StopReason.CANCELLED
            report.warnings.append(f"stopped instead of retrying: {error}")
        if report.stopped_because is StopReason.SKIPPED and not report.batches:
            return  # nothing was done, so the artifact of the last run that worked stays the latest
        _publish(report, started)
        _ping_success(report)


def emit(report: Report) -> None:
    """Send the run's events to the Prefect server, if there is one."""
    if has_server():
        try:
            emit_events(report)
        except Exception as error:  # noqa: BLE001 - the run's state does not depend on events
            run_logger().warning("the run's events could not be sent: %s", error)


def _publish(report: Report, started: float) -> None:
    stop_request.begin_work()  # from here on a stop request does not interrupt the publishing
    report.duration_seconds = time.monotonic() - started
    run_logger().info("%s", report.summary(), extra={"action": "report", "job": report.job})
    if has_server():
        try:
            publish_report(report)
        except Exception as error:  # noqa: BLE001 - the run's state does not depend on artifacts
            run_logger().warning("the report could not be stored as an artifact: %s", error)


def _ping_success(report: Report) -> None:
    address = settings().success_ping_url
    if address is not None and is_success(report):
        problem = ping(address.get_secret_value(), report.job)
        if problem is not None:
            run_logger().warning("%s", problem, extra={"action": "ping", "job": report.job})
