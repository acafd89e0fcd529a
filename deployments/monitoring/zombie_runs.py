"""The watch's search for zombie runs (SPEC 2.8).

Two automations find a dead run within 100 seconds and start it again
(`deployments/setup/automations/rescue.py`). They react to events. If the server is killed at the
wrong moment, an event is lost for good and the run keeps its state, and for minutes its
deployment's slot. So the watch checks every minute when each begun run was last heard of. It allows
more silence than the automations do, and then marks the run as they would have done:

* A run of a deployment in our work pool is marked as Crashed with the message by which the second
  automation starts it again: the same flow run, counted by `flows/run/rerun_limit.py`.
* It only ends as Crashed if another run of its deployment is at work or has done the job's work
  since, if its deployment is paused or deleted, if it was started by hand, or if it belongs to
  another work pool.

Pending runs are treated like Running ones. A run that is being cancelled is left to the server,
which makes it Cancelled after five minutes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from deployments.monitoring.job_state import JobState, did_its_work
from deployments.names import WORK_POOL
from deployments.setup.automations.rescue import LOST, NO_SIGN_OF_LIFE
from deployments.setup.pools.variables import HEARTBEAT_SECONDS
from flows.jobs import JOBS
from flows.run.zombie_runs import (
    DEFAULT_HEARTBEAT,
    PAGE,
    TAKEN_OVER,
    is_zombie,
    mark_crashed,
    read_begun,
    read_last_heard,
    silence_limit,
    state_since,
)

LIMIT = 2 * silence_limit(timedelta(seconds=HEARTBEAT_SECONDS))
"""Five missed heartbeats: the automations have had their turn after three."""
LIMIT_ELSEWHERE = silence_limit(DEFAULT_HEARTBEAT)
"""For a run whose heartbeat we do not set: started by hand, or in another work pool."""

ALONE = "Its process is gone: no event for {:.0f} s"
UNWANTED = "Its process is gone, and {} is paused or deleted"


@dataclass(frozen=True)
class Marked:
    """A zombie run that was marked as Crashed."""

    job: str
    run: FlowRun
    """As it was before."""
    message: str

    @property
    def rerun(self) -> bool:
        """Whether the automation starts it again."""
        return self.message.startswith(NO_SIGN_OF_LIFE)

    def __str__(self) -> str:
        """Write it as one line."""
        said = f"{self.job}: flow run {self.run.id} said {self.run.state_name}"
        return f"{said}: {self.message}{'; to be started again' if self.rerun else ''}"


def mark_zombies(
    client: SyncPrefectClient, now: datetime, observed_since: datetime
) -> Iterator[Marked]:
    """Mark the zombie runs of all jobs as Crashed; yield each after it is marked.

    Nothing is done while the automation that does the same is switched off or missing.

    Args:
        client: client of the Prefect server.
        now: the time up to which they are silent.
        observed_since: since when the server has answered without a break.
    """
    if not any(automation.enabled for automation in client.read_automations_by_name(LOST)):
        return
    ours = FlowFilter(name=FlowFilterName(any_=list(JOBS)))
    jobs = {flow.id: flow.name for flow in client.read_flows(flow_filter=ours)}
    zombies, at_work = [], {}
    for run in list(read_begun(client, ours)):
        if is_zombie(read_last_heard(client, run), now, limit_for(run), observed_since):
            zombies.append(run)
        else:
            at_work[run.deployment_id] = run.id
    # The youngest first: it is started again, and the older ones only end.
    for run in sorted(zombies, key=state_since, reverse=True):
        job = jobs[run.flow_id]
        successor, wanted = None, True
        if in_our_pool(run):
            successor = at_work.get(run.deployment_id) or _done_since(client, run)
            wanted = successor is not None or _is_wanted(client, job, run)
        marked = Marked(job, run, crash_message(job, run, successor, wanted=wanted))
        if mark_crashed(client, run, marked.message):
            if marked.rerun:
                at_work[run.deployment_id] = run.id
            yield marked


def in_our_pool(run: FlowRun) -> bool:
    """Return whether a run belongs to a deployment that our workers serve."""
    return run.deployment_id is not None and run.work_pool_name == WORK_POOL


def limit_for(run: FlowRun) -> timedelta:
    """Return how long a run may be silent."""
    return LIMIT if in_our_pool(run) else LIMIT_ELSEWHERE


def crash_message(job: str, run: FlowRun, successor: UUID | None, *, wanted: bool) -> str:
    """Return the state message of a zombie run, which decides whether it is started again.

    Args:
        job: the job's name.
        run: the zombie run.
        successor: a run of its deployment that is at work or has done the job's work since.
        wanted: whether its deployment is there and not paused.
    """
    if not in_our_pool(run):
        return ALONE.format(limit_for(run).total_seconds())
    if successor is not None:
        return TAKEN_OVER.format(successor)
    if not wanted:
        return UNWANTED.format(job)
    return f"{NO_SIGN_OF_LIFE} for {limit_for(run).total_seconds():.0f} s"


def _done_since(client: SyncPrefectClient, run: FlowRun) -> UUID | None:
    """Return a run of the same deployment that began later and did the job's work."""
    assert run.deployment_id is not None  # noqa: S101 - it is in our pool
    ended = FlowRunFilterStateType(any_=[StateType.COMPLETED, StateType.FAILED])
    later = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[run.deployment_id])),
        flow_run_filter=FlowRunFilter(
            start_time=FlowRunFilterStartTime.model_validate({"after_": state_since(run)}),
            state=FlowRunFilterState(type=ended),
        ),
        sort=FlowRunSort.START_TIME_DESC,
        limit=PAGE,
    )
    return next((found.id for found in later if did_its_work(found)), None)


def _is_wanted(client: SyncPrefectClient, job: str, run: FlowRun) -> bool:
    """Return whether the run's deployment is there, and neither it nor its schedule is paused."""
    assert run.deployment_id is not None  # noqa: S101 - it is in our pool
    try:
        found = client.read_deployment(run.deployment_id)
    except ObjectNotFound:
        return False
    return not (found.paused or JobState(job, found).paused)
