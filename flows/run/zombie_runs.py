"""Zombie runs: flow runs that say Running or Pending although their process is gone (SPEC 2.8).

A live run emits events, at least a heartbeat every few seconds. A run is a zombie when it has
changed no state and emitted no event for several heartbeats. Two callers mark zombie runs as
Crashed: a run that takes over its job (`flows/run/takeover.py`), and the watch, every minute
(`deployments/monitoring/zombie_runs.py`). Both read, decide and mark with the functions below.

A false alarm is harmless: the guard lets only one process of a job work.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import OrchestrationResult
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.filters import EventFilter, EventOrder, EventResourceFilter
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

MISSED_HEARTBEATS = 2.5
"""A run that has missed so many heartbeats is a zombie."""
DEFAULT_HEARTBEAT = timedelta(seconds=180)
"""Prefect's default. A run without a deployment has it: our setting does not reach it."""

TAKEN_OVER = "Its process is gone: flow run {} has taken over the job"
"""The state message of a zombie run whose work another run does. It must match none of the patterns
by which an automation starts a run again (deployments/setup/automations/rescue.py)."""

PAGE = 100


def silence_limit(heartbeat: timedelta) -> timedelta:
    """Return how long a live run with this heartbeat may be silent."""
    return MISSED_HEARTBEATS * heartbeat


def is_zombie(
    last_heard: datetime, now: datetime, limit: timedelta, observed_since: datetime | None = None
) -> bool:
    """Decide whether a run that says Running or Pending is a zombie.

    Args:
        last_heard: when the run last changed its state or emitted an event.
        now: the time of the decision.
        limit: how long a live run may be silent.
        observed_since: since when the server has answered without a break; None for always. A
            server that was away has received no events, so silence before this does not count.
    """
    threshold = now - limit
    return last_heard < threshold and (observed_since is None or observed_since <= threshold)


def read_begun(client: SyncPrefectClient, flows: FlowFilter) -> Iterator[FlowRun]:
    """Yield the flow runs of some flows that say Running or Pending, page by page."""
    states = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    seen: set[UUID] = set()
    while True:
        page = client.read_flow_runs(
            flow_filter=flows,
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=states)),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=PAGE,
            offset=len(seen),
        )
        new = [run for run in page if run.id not in seen]
        if not new:
            return
        seen.update(run.id for run in new)
        yield from new


def read_last_heard(client: SyncPrefectClient, run: FlowRun) -> datetime:
    """Return when a run last changed its state or emitted an event."""
    latest = EventFilter(
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]), order=EventOrder.DESC
    )
    # The event of the state change itself may not have arrived yet.
    events = [event.occurred for event in client.read_events(latest, limit=1).events]
    return max([state_since(run), *events])


def state_since(run: FlowRun) -> datetime:
    """Return when a run got into its state, which for a begun run is when it last began."""
    assert run.state is not None  # noqa: S101 - it was selected by its state
    return run.state.timestamp


def mark_crashed(client: SyncPrefectClient, run: FlowRun, message: str) -> bool:
    """Mark a zombie run as Crashed; return False when it was deleted or the server refused."""
    with suppress(ObjectNotFound):
        answer: OrchestrationResult[Any] = client.set_flow_run_state(
            run.id, Crashed(message=message)
        )
        return answer.status is SetStateStatus.ACCEPT
    return False
