"""Limit on how often a killed run is restarted (SPEC 2.8).

An automation on the Prefect server restarts a run whose process was killed. A run that causes its
own death, for example because it needs more memory than there is, would be restarted for ever.
"""

from prefect.context import FlowRunContext

from maintenance.errors import MaintenanceError

MAX_RERUNS = 3


class RerunLimitReached(MaintenanceError):
    """The run was restarted too often; the text says how often, and what to check."""


def refuse_endless_reruns() -> None:
    """Fail a run that has been restarted more than `MAX_RERUNS` times.

    Call it before the run's first step, but only while holding the job's guard. Without the guard,
    an earlier process of the same run may still be at work, and the run's state is that process's
    to set. Outside a run that a Prefect server records, this function does nothing.

    Raises:
        RerunLimitReached: the process of this run was killed that often. The run ends as Failed,
            which no automation restarts.
    """
    context = FlowRunContext.get()
    starts = context.flow_run.run_count if context and context.flow_run else 0
    if starts > 1 + MAX_RERUNS:
        raise RerunLimitReached(
            f"started again {MAX_RERUNS} times, and killed each time; it is not started once more."
            " Look for what kills its process, such as too little memory, in the worker's log and"
            " in the system's log"
        )
