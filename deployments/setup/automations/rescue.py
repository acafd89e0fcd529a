"""Two automations that bring back runs whose process is gone.

The first finds them: a run that was heard of and then is silent is marked as Crashed. The second
starts a crashed run again. They are two, because the actions of one automation run at the same
time and would undo each other. Each job's guard in the application's database keeps a false alarm
from becoming two runs at work, and `flows/run/rerun_limit.py` ends a run that is started again and
again.
"""

from datetime import timedelta

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

SILENCE = timedelta(seconds=65)
"""Two heartbeats that do not come: so a dead run is going again within 100 seconds."""

LOST = "Maintenance: mark silent runs as crashed"
RERUN = "Maintenance: start crashed runs again"

NO_SIGN_OF_LIFE = "No sign of life"

DEAD_INFRASTRUCTURE = (
    f"{NO_SIGN_OF_LIFE}*",
    "Process exited with status code: -9*",
    "Flow run infrastructure exited with non-zero status code -9*",
    "Execution was cancelled by the runtime environment*",
    "Execution was aborted by Python system exit call*",  # its worker is gone, and so its output
)
"""How the messages of runs begin that were killed. A run that crashed for a reason of its own,
such as code that cannot be loaded, would crash again for ever."""


def rescue_automations(work_pool: str) -> list[AutomationCore]:
    """Return both automations, for the runs of one work pool."""
    runs = {"prefect.resource.id": "prefect.flow-run.*"}
    # By its name, because heartbeats carry the pool of a run but not its deployment.
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
            description="Killed, and not by a fault of its own: once more.",
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
