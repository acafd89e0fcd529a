"""The state that a run ends in, which carries its report (SPEC 2.7)."""

from typing import Any

from prefect.client.schemas.objects import State, StateType
from prefect.states import Cancelled, Completed, Failed

from maintenance.errors import MaintenanceError
from maintenance.report import Report, StopReason

ITEMS_FAILED = "Items failed: "
"""Beginning of the message of the Failed state of a run that did its work except for some items.

Its name is the usual one, by which the filters of the UI and of the command line find it.
"""
FORMER_NAME = "ItemsFailed"
"""The name of that state in runs of earlier versions."""

SKIPPED = "Skipped"
"""Name of the Completed state of a run that did nothing, because another run holds the job."""

ATTACHED = "_maintenance_report"


class UnfinishedRun(MaintenanceError):
    """A run did not do all of its work; `report` lists what it did."""

    def __init__(self, report: Report) -> None:
        """Keep the report."""
        super().__init__(report.summary())
        self.report = report


class ItemsFailed(UnfinishedRun):
    """Some items of a run failed; `report` lists them with their causes."""


class RunStopped(UnfinishedRun):
    """The run ended early because of a stop request."""


def attach_report(error: Exception, report: Report) -> None:
    """Attach the report of a run to the error that ended it."""
    setattr(error, ATTACHED, report)


def attached_report(error: BaseException) -> Report | None:
    """Return the report of the run that an error ended; None when it ended before its report."""
    report: Report | None = getattr(error, ATTACHED, None)
    return report


def is_items_failed(state: State[Any]) -> bool:
    """Decide whether a run ended in that state, of this version or an earlier one."""
    if state.type is not StateType.FAILED:
        return False
    return state.name == FORMER_NAME or (state.message or "").startswith(ITEMS_FAILED)


def final_state(report: Report) -> State[Any]:
    """Return the state of a run that ended without an exception.

    A flow that returns a state ends in it. Prefect hands the state's data to the caller of the
    flow: the report, or an `UnfinishedRun` that is raised.

    Returns:
        Cancelled after a stop request; Failed, with `ITEMS_FAILED` before its message, when items
        failed; Completed, named Skipped, when another run holds the job or there is nothing to work
        on; otherwise Completed. The message is the report's summary.
    """
    message = report.summary()
    if report.cancelled:
        return Cancelled(message=message, data=RunStopped(report))
    if report.items_failed:
        return Failed(message=f"{ITEMS_FAILED}{message}", data=ItemsFailed(report))
    if report.stopped_because is StopReason.SKIPPED:
        return Completed(name=SKIPPED, message=message, data=report)
    return Completed(message=message, data=report)
