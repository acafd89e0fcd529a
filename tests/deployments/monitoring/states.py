"""Jobs, runs and workers as a Prefect server returns them, without a server."""

from datetime import datetime
from typing import Any
from uuid import uuid4

from prefect.client.schemas.objects import DeploymentSchedule, FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule

from deployments.monitoring.job_state import JobState
from deployments.names import DEPLOYMENT


def schedule(
    timing: str | SCHEDULE_TYPES, updated: datetime, *, active: bool = True
) -> DeploymentSchedule:
    """A schedule, a cron line in UTC or another one, that was edited at a time."""
    if isinstance(timing, str):
        timing = CronSchedule(cron=timing, timezone="UTC")
    made = {"id": uuid4(), "schedule": timing, "active": active, "updated": updated}
    return DeploymentSchedule.model_validate(made)


def job_state(
    job: str,
    *schedules: DeploymentSchedule,
    worked: datetime | None = None,
    paused: bool = False,
) -> JobState:
    """A deployed job with these schedules whose last run that did its work started at a time."""
    made = {"id": uuid4(), "name": DEPLOYMENT, "flow_id": uuid4(), "paused": paused}
    deployment = DeploymentResponse.model_validate(made | {"schedules": list(schedules)})
    work = run("COMPLETED", started=worked) if worked else None
    return JobState(job, deployment, last_run=work, last_work=work)


def run(
    state: str,
    name: str | None = None,
    message: str = "",
    *,
    started: datetime | None = None,
    **fields: Any,
) -> FlowRun:
    """A flow run in a state."""
    ends_in = State[Any](type=StateType(state), name=name or state.capitalize(), message=message)
    made = {"id": uuid4(), "flow_id": uuid4(), "state": ends_in, "start_time": started}
    return FlowRun.model_validate(made | fields)
