"""The end of a run whose process is gone, when another run of its job takes over (SPEC 2.8).

A run that takes its job's guard looks for others that still say Running, or Pending when they died
before they began and the server, killed as well, never told its automations. They hold no guard, so
they are not at work; but that alone does not prove them dead. One may be starting, waiting for the
database, making a dry run, or just saying how it ended. So it is marked as Crashed only when it is
silent, too: no event of its own for two and a half heartbeats. One that lives would have been
heard. In doubt nothing is done: an automation, or the next run, looks again.

The message is none of those by which an automation starts a run again: its work goes on here.
"""

from datetime import UTC, datetime, timedelta
from typing import cast

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.events.filters import EventFilter, EventOrder, EventResourceFilter
from prefect.settings import get_current_settings
from prefect.states import Crashed

HEARTBEATS = 2.5
HEARTBEAT_BY_HAND = 180
"""Seconds between the heartbeats of a run without a deployment, which has Prefect's default."""

MESSAGE = "Its process is gone: flow run {} has taken over the job"
MOST = 50


def take_over() -> list[FlowRun]:
    """Mark other runs of this run's job that are silent as Crashed; return them.

    For a run that holds the job's guard. Outside a run that a Prefect server keeps, and where
    heartbeats are switched off, it does nothing.
    """
    context = FlowRunContext.get()
    heartbeat = get_current_settings().flows.heartbeat_frequency
    if context is None or context.flow_run is None or heartbeat is None:
        return []
    client = cast("SyncPrefectClient", context.client)  # a flow that is no coroutine has this one
    return mark_silent(client, context.flow_run, datetime.now(UTC), heartbeat)


def mark_silent(
    client: SyncPrefectClient, ours: FlowRun, now: datetime, heartbeat: float
) -> list[FlowRun]:
    """Mark other runs of the job that are silent as Crashed; return them.

    Args:
        client: asks the Prefect server.
        ours: the run that has taken over.
        now: the moment up to which they are silent.
        heartbeat: seconds between the heartbeats of a run of the same deployment.
    """
    gone = []
    for one in _others(client, ours):
        seconds = heartbeat if one.deployment_id else max(heartbeat, HEARTBEAT_BY_HAND)
        if not was_heard(client, one, now - timedelta(seconds=HEARTBEATS * seconds)):
            client.set_flow_run_state(one.id, Crashed(message=MESSAGE.format(ours.id)))
            gone.append(one)
    return gone


def _others(client: SyncPrefectClient, ours: FlowRun) -> list[FlowRun]:
    """Return the other runs of the job that say Running, or Pending.

    Another deployment of the same flow is another job: it may have another database.
    """
    begun = FlowRunFilterState(
        type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    )
    found = client.read_flow_runs(
        flow_filter=FlowFilter(id=FlowFilterId(any_=[ours.flow_id])),
        flow_run_filter=FlowRunFilter(state=begun),
        limit=MOST,
    )
    same = {ours.deployment_id, None} if ours.deployment_id else None
    return [
        one for one in found if one.id != ours.id and (same is None or one.deployment_id in same)
    ]


def was_heard(client: SyncPrefectClient, run: FlowRun, since: datetime) -> bool:
    """Return whether a run has changed its state, or told anything, at that moment or later."""
    if run.state is not None and run.state.timestamp >= since:
        return True  # the event of it may be on its way
    latest = EventFilter(
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]), order=EventOrder.DESC
    )
    return any(event.occurred >= since for event in client.read_events(latest, limit=1).events)
