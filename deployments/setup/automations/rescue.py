"""Two automations that rerun zombie runs: flow runs whose process is gone.

The first marks a run as Crashed after it has been silent for some time. The second starts a
crashed run again. They are two because the actions of one automation run at the same time and would
undo each other. After a false alarm the job's guard still lets only one process work, and
`flows/run/rerun_limit.py` stops a crash loop.
"""

from datetime import timedelta

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

SILENCE = timedelta(seconds=65)
"""Two missed heartbeats: a dead run is started again within 100 seconds."""

LOST = "Maintenance: mark silent runs as crashed"
RERUN = "Maintenance: start crashed runs again"

NO_SIGN_OF_LIFE = "No sign of life"
"""Stays as it is: automations on a server match it that were applied by an older version."""

DEAD_INFRASTRUCTURE = (
    f"{NO_SIGN_OF_LIFE}*",
    "Process exited with status code: -9*",
    "Flow run infrastructure exited with non-zero status code -9*",
    "Flow run infrastructure exited with non-zero status code 137*",  # a container
    "Execution was cancelled by the runtime environment*",
    "Execution was aborted by Python system exit call*",  # worker killed: output pipe is gone
)
"""Patterns of the state messages of runs whose process was killed. Only these are started again: a
run that crashed for another reason, such as code that cannot be loaded, would crash for ever."""


def rescue_automations(work_pool: str) -> list[AutomationCore]:
    """Return both automations for the runs of a work pool."""
    runs = {"prefect.resource.id": "prefect.flow-run.*"}
    # By work pool, because a heartbeat event names the run's pool but not its deployment.
    of_pool = ResourceSpecification.model_validate(
        {"prefect.resource.role": "work-pool", "prefect.resource.name": work_pool}
    )
    return [
        AutomationCore(
            name=LOST,
            description=f"Silent for {SILENCE.total_seconds():.0f} s: the process is gone.",
            trigger=EventTrigger(
                match=ResourceSpecification.model_validate(runs),
                match_related=of_pool,
                after={
                    "prefect.flow-run.Pending",
                    "prefect.flow-run.Submitting",
                    "prefect.flow-run.Running",
                    "prefect.flow-run.heartbeat",
                },
                expect={"prefect.flow-run.*"},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=SILENCE,
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED,
                    message=f"{NO_SIGN_OF_LIFE} for {SILENCE.total_seconds():.0f} s",
                )
            ],
        ),
        AutomationCore(
            name=RERUN,
            description="Its process was killed: start it again.",
            trigger=EventTrigger(
                match=ResourceSpecification.model_validate(
                    runs | {"prefect.state-message": list(DEAD_INFRASTRUCTURE)}
                ),
                match_related=of_pool,
                expect={"prefect.flow-run.Crashed"},
                for_each={"prefect.resource.id"},
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(0),
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.SCHEDULED,
                    name="AwaitingRetry",
                    message="Started again after its process was killed",
                )
            ],
        ),
    ]
