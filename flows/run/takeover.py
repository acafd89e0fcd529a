"""Takeover: a run that holds its job's guard marks the job's zombie runs as Crashed (SPEC 2.8).

Zombie runs of the job hold no guard, so they are not at work. That alone does not prove that they
are dead: a run may be starting, waiting for the database, making a dry run, or reporting its end.
So only runs that are also silent are marked (`flows/run/zombie_runs.py`). In doubt nothing is done:
an automation, the watch or the next run checks again.

The state message matches none of those by which an automation starts a run again: the work of the
zombie run goes on in this run.
"""

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import cast

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.settings import get_current_settings

from flows.run.zombie_runs import (
    DEFAULT_HEARTBEAT,
    TAKEN_OVER,
    is_zombie,
    mark_crashed,
    read_begun,
    read_last_heard,
    silence_limit,
)

MOST = 50
"""A takeover checks at most so many runs, because it delays the run's work."""


def take_over() -> list[FlowRun]:
    """Mark the zombie runs of this run's job as Crashed; return them.

    The caller holds the job's guard. Outside a Prefect run, and where heartbeats are switched off,
    it does nothing.
    """
    context = FlowRunContext.get()
    heartbeat = get_current_settings().flows.heartbeat_frequency
    if context is None or context.flow_run is None or heartbeat is None:
        return []
    client = cast("SyncPrefectClient", context.client)  # a flow that is no coroutine has this one
    return mark_zombies(client, context.flow_run, datetime.now(UTC), timedelta(seconds=heartbeat))


def mark_zombies(
    client: SyncPrefectClient, ours: FlowRun, now: datetime, heartbeat: timedelta
) -> list[FlowRun]:
    """Mark the other zombie runs of a run's job as Crashed; return them.

    Args:
        client: client of the Prefect server.
        ours: the run that takes over.
        now: the time up to which the others are silent.
        heartbeat: time between the heartbeats of a run of the same deployment.
    """
    begun = islice(read_begun(client, FlowFilter(id=FlowFilterId(any_=[ours.flow_id]))), MOST)
    message = TAKEN_OVER.format(ours.id)
    return [
        run
        for run in list(begun)
        if is_of_same_job(run, ours)
        and is_zombie(read_last_heard(client, run), now, limit_for(run, heartbeat))
        and mark_crashed(client, run, message)
    ]


def is_of_same_job(run: FlowRun, ours: FlowRun) -> bool:
    """Decide whether another run of the same flow belongs to the job that `ours` takes over.

    Another deployment of the flow is another job, because it may have another database.
    """
    if run.id == ours.id:
        return False
    return ours.deployment_id is None or run.deployment_id in {ours.deployment_id, None}


def limit_for(run: FlowRun, heartbeat: timedelta) -> timedelta:
    """Return how long a run may be silent; longer for one that was started by hand."""
    return silence_limit(heartbeat if run.deployment_id else max(heartbeat, DEFAULT_HEARTBEAT))
