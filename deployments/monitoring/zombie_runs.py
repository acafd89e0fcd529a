"""Runs that say Running or Pending for ever, found by a clock and not by events (SPEC 2.8).

Two automations find a dead run within 100 seconds and start it again (`automations/rescue.py`).
They go by the events that reach them. One that is lost, because the server was killed in that very
moment, is never made up for, and the run keeps its state, and for minutes its deployment's slot.
So the watch asks every minute which runs have begun, and when each was heard of last. It comes
long after the automations, and does what they would have done:

* A run of a deployment that our workers serve is marked as Crashed with the automations' words, so
  that it is started again: the same run, counted by `flows/run/rerun_limit.py`.
* It only ends as Crashed where nothing is left to start: another run of its deployment is at work
  or has done the job's work since the silent one began; its deployment is paused or gone; it was
  started by hand, or is not served by our work pool.

Pending is no exception: the automations do not wait longer for it either. A run that is being
cancelled is the server's own: it is Cancelled after five minutes. A false alarm does no harm, since
the job's guard lets one process work; but a server that comes back has not heard of anybody for a
while, so what counts is silence during which the server was there and the watch asked.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import OrchestrationResult
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
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from deployments.monitoring.job_state import JobState, did_its_work
from deployments.names import WORK_POOL
from deployments.setup.automations.rescue import LOST, NO_SIGN_OF_LIFE
from deployments.setup.pools.templates import HEARTBEAT_SECONDS
from flows.jobs import JOBS
from flows.run.takeover import HEARTBEAT_BY_HAND, HEARTBEATS, MESSAGE, was_heard

SILENT = timedelta(seconds=2 * HEARTBEATS * HEARTBEAT_SECONDS)
"""Five heartbeats that do not come: the automations have done their part after three."""
SILENT_BY_HAND = timedelta(seconds=HEARTBEATS * HEARTBEAT_BY_HAND)
"""For a run whose heartbeat is not ours to set: by hand, or in another work pool."""

ALONE = "Its process is gone: no sign of life for {:.0f} s"
UNWANTED = "Its process is gone, and {} is paused or deleted"

PAGE = 100


@dataclass(frozen=True)
class Marked:
    """A run that was marked as Crashed: of which job, what it said, and why."""

    job: str
    run: FlowRun
    message: str

    @property
    def again(self) -> bool:
        """Whether it was marked so that it is started again."""
        return self.message.startswith(NO_SIGN_OF_LIFE)

    def __str__(self) -> str:
        """Write it as one line."""
        said = f"{self.job}: flow run {self.run.id} said {self.run.state_name}"
        return f"{said}: {self.message}{'; to be started again' if self.again else ''}"


def mark_dead_runs(
    client: SyncPrefectClient, now: datetime, watched_since: datetime
) -> Iterator[Marked]:
    """Mark the runs of all jobs that are silent as Crashed; yield each when that is done.

    Nothing is done while the automation that does the same is switched off, or not there.

    Args:
        client: asks the Prefect server.
        now: the moment up to which they are silent.
        watched_since: the moment from which their silence counts, at the earliest.
    """
    if not any(one.enabled for one in client.read_automations_by_name(LOST)):
        return
    jobs = {one.id: one.name for one in client.read_flows(flow_filter=_ours())}
    begun = _begun(client)
    silent = {one.id: one for one in begun if _is_silent(client, one, now, watched_since)}
    at_work = {one.deployment_id: one for one in begun if one.id not in silent}
    # The youngest first: it is the one to be started again, and the others are left behind.
    for run in sorted(silent.values(), key=_since, reverse=True):
        message = _message(client, jobs[run.flow_id], run, at_work.get(run.deployment_id))
        with suppress(ObjectNotFound):  # deleted meanwhile
            answer: OrchestrationResult[Any] = client.set_flow_run_state(
                run.id, Crashed(message=message)
            )
            if answer.status is SetStateStatus.ACCEPT:
                marked = Marked(jobs[run.flow_id], run, message)
                if marked.again:
                    at_work[run.deployment_id] = run
                yield marked


def _ours() -> FlowFilter:
    return FlowFilter(name=FlowFilterName(any_=list(JOBS)))


def _begun(client: SyncPrefectClient) -> list[FlowRun]:
    """Return all runs of the jobs that say Running or Pending."""
    states = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    begun: dict[UUID, FlowRun] = {}
    while True:
        page = client.read_flow_runs(
            flow_filter=_ours(),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=states)),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=PAGE,
            offset=len(begun),
        )
        found = {one.id: one for one in page}
        if not found.keys() - begun.keys():
            return list(begun.values())
        begun |= found


def _is_ours(run: FlowRun) -> bool:
    return run.deployment_id is not None and run.work_pool_name == WORK_POOL


def _since(run: FlowRun) -> datetime:
    """Return when a run got into its state, which is when it began, for this time."""
    assert run.state is not None  # noqa: S101 - it was asked for by its state
    return run.state.timestamp


def _allowed(run: FlowRun) -> timedelta:
    return SILENT if _is_ours(run) else SILENT_BY_HAND


def _is_silent(
    client: SyncPrefectClient, run: FlowRun, now: datetime, watched_since: datetime
) -> bool:
    limit = now - _allowed(run)
    return watched_since <= limit and not was_heard(client, run, limit)


def _message(client: SyncPrefectClient, job: str, run: FlowRun, at_work: FlowRun | None) -> str:
    """Return the words with which a run ends, by which it is started again or not."""
    if not _is_ours(run):
        return ALONE.format(_allowed(run).total_seconds())
    successor = at_work or _done_since(client, run)
    if successor is not None:
        return MESSAGE.format(successor.id)
    if not _is_wanted(client, job, run):
        return UNWANTED.format(job)
    return f"{NO_SIGN_OF_LIFE} for {SILENT.total_seconds():.0f} s"


def _done_since(client: SyncPrefectClient, run: FlowRun) -> FlowRun | None:
    """Return a run of the same deployment that began later and did the job's work."""
    assert run.deployment_id is not None  # noqa: S101 - it is ours
    ended = FlowRunFilterStateType(any_=[StateType.COMPLETED, StateType.FAILED])
    later = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[run.deployment_id])),
        flow_run_filter=FlowRunFilter(
            start_time=FlowRunFilterStartTime.model_validate({"after_": _since(run)}),
            state=FlowRunFilterState(type=ended),
        ),
        sort=FlowRunSort.START_TIME_DESC,
        limit=PAGE,
    )
    return next((one for one in later if did_its_work(one)), None)


def _is_wanted(client: SyncPrefectClient, job: str, run: FlowRun) -> bool:
    """Return whether the run's deployment is there, and neither it nor its schedule is paused."""
    assert run.deployment_id is not None  # noqa: S101 - it is ours
    try:
        found = client.read_deployment(run.deployment_id)
    except ObjectNotFound:
        return False
    return not (found.paused or JobState(job, found).paused)
