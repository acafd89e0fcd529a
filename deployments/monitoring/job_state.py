"""The state of a job on the Prefect server: its schedules, its runs, its workers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun, StateType, Worker
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from deployments.names import DEPLOYMENT, WORK_POOL
from deployments.setup.deployment import read_deployment
from deployments.setup.schedule_merge import to_live
from flows.run.final_state import SKIPPED, is_items_failed

NO_ENGINE = "has no container engine"
"""In the message of a skipped run whose job can never have work in this deployment of Validibot."""

NO_SCHEDULE = "none"

PAGE = 50
MAX_RUNS = 500
"""At most so many runs are searched for one that did the job's work."""

HEARTBEATS = 3
SHORTEST_SILENCE = timedelta(minutes=2)
"""A worker was seen lately if it was heard within three heartbeats, or within this time."""


@dataclass(frozen=True)
class JobState:
    """One job on the server."""

    job: str
    deployment: DeploymentResponse | None
    last_run: FlowRun | None = None
    """The run that started last, whether or not it has ended."""
    last_work: FlowRun | None = None
    """The last run that did the job's work: neither a dry run nor a skipped one."""
    next_run: datetime | None = None

    @property
    def paused(self) -> bool:
        """Whether it has schedules, and none of them starts runs."""
        found = self.deployment
        return found is not None and bool(found.schedules) and not self.active

    @property
    def active(self) -> list[DeploymentSchedule]:
        """The schedules that start runs."""
        if self.deployment is None or self.deployment.paused:
            return []
        return [one for one in self.deployment.schedules if one.active]

    @property
    def schedule(self) -> str:
        """All its schedules as text."""
        if self.deployment is None:
            return "not deployed"
        return ", ".join(to_live(one).text for one in self.deployment.schedules) or NO_SCHEDULE


def read_job(client: SyncPrefectClient, job: str) -> JobState:
    """Read the state of a job."""
    deployment = read_deployment(client, f"{job}/{DEPLOYMENT}")
    of_job = FlowFilter(name=FlowFilterName(any_=[job]))
    started = FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False))
    latest = client.read_flow_runs(
        flow_filter=of_job, flow_run_filter=started, sort=FlowRunSort.START_TIME_DESC, limit=1
    )
    return JobState(
        job,
        deployment,
        last_run=latest[0] if latest else None,
        last_work=_last_work(client, of_job),
        next_run=_next_run(client, deployment.id) if deployment else None,
    )


def read_workers(client: SyncPrefectClient, pool: str = WORK_POOL) -> list[Worker]:
    """Return a work pool's workers, the one heard last first.

    Raises:
        ObjectNotFound: there is no work pool.
    """
    found = client.read_workers_for_work_pool(pool, limit=PAGE)
    heard = [(one.last_heartbeat_time, one) for one in found if one.last_heartbeat_time]
    return [one for _, one in sorted(heard, key=lambda pair: pair[0], reverse=True)]


def seen_lately(worker: Worker, now: datetime) -> bool:
    """Decide whether a worker is present, from its last heartbeat."""
    interval = timedelta(seconds=worker.heartbeat_interval_seconds or 0)
    heard = worker.last_heartbeat_time
    return heard is not None and now - heard <= max(SHORTEST_SILENCE, HEARTBEATS * interval)


def unseen_since(workers: Sequence[Worker]) -> str:
    """Return since when no worker was seen, as text; `workers` as `read_workers` returns them."""
    heard = workers[0].last_heartbeat_time if workers else None
    since = f"none seen since {heard:%Y-%m-%d %H:%M} UTC" if heard else "none was ever seen"
    return f"{since}, so no run starts"


def did_its_work(run: FlowRun) -> bool:
    """Decide whether an ended run did the job's work.

    A run in which items failed counts: it did the others, and the failures are reported separately.
    A skipped run counts only if the job can never have work here.
    """
    state = run.state
    if state is None or (run.parameters or {}).get("dry_run"):
        return False
    if state.type is StateType.FAILED:
        return is_items_failed(state)
    return state.name != SKIPPED or NO_ENGINE in (state.message or "")


def _last_work(client: SyncPrefectClient, of_job: FlowFilter) -> FlowRun | None:
    ended = FlowRunFilter(
        start_time=FlowRunFilterStartTime(is_null_=False),
        state=FlowRunFilterState(
            type=FlowRunFilterStateType(any_=[StateType.COMPLETED, StateType.FAILED])
        ),
    )
    for offset in range(0, MAX_RUNS, PAGE):
        page = client.read_flow_runs(
            flow_filter=of_job,
            flow_run_filter=ended,
            sort=FlowRunSort.START_TIME_DESC,
            limit=PAGE,
            offset=offset,
        )
        found = next((run for run in page if did_its_work(run)), None)
        if found is not None or len(page) < PAGE:
            return found
    return None


def _next_run(client: SyncPrefectClient, deployment: UUID) -> datetime | None:
    future = FlowRunFilterNextScheduledStartTime.model_validate({"after_": datetime.now(UTC)})
    scheduled = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    runs = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        flow_run_filter=FlowRunFilter(state=scheduled, next_scheduled_start_time=future),
        sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
        limit=1,
    )
    return runs[0].next_scheduled_start_time if runs else None
