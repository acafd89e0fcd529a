"""An end to being started again and again (SPEC 2.8).

A run whose process was killed is started again by an automation on the Prefect server. A run that
kills its own process, because it needs more memory than there is, would never come to an end.
"""

from prefect.context import FlowRunContext

from maintenance.errors import MaintenanceError

MAX_RERUNS = 3


class RerunLimitReached(MaintenanceError):
    """The run was started again too often; the text says how often, and what to look for."""


def refuse_endless_reruns() -> None:
    """Let a run go on that has been started at most `MAX_RERUNS` times again.

    To be called first in a run, before the job's guard is taken. Outside a run that a Prefect
    server keeps, it does nothing.

    Raises:
        RerunLimitReached: the process of this run was killed that often. The run ends as Failed,
            which no automation starts again.
    """
    context = FlowRunContext.get()
    started = context.flow_run.run_count if context and context.flow_run else 0
    if started > 1 + MAX_RERUNS:
        raise RerunLimitReached(
            f"started again {MAX_RERUNS} times, and killed each time; not once more: look for what"
            " ends its process, such as too little memory, in the worker's log and the system's"
        )
