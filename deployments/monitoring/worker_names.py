"""Whether two workers have the same name, as far as the Prefect server can tell.

The server keeps one record for all workers of a name, so it shows two as one, and does not miss one
of them when it ends. Prefect makes up a different name for each worker unless one is given. A
worker reports to the server when it starts and when it ends, but not when it is killed.
"""

from datetime import UTC, datetime

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import Worker

from deployments.monitoring.job_state import read_workers, seen_lately

STARTED, STOPPED = "prefect.worker.started", "prefect.worker.stopped"
NEWEST = 50
"""Of a worker's events, as many are read."""


def same_name(client: SyncPrefectClient, pool: str, name: str, now: datetime) -> str | None:
    """Return a warning if a worker of this name seems to be at work in a pool, else None.

    A worker that was killed seems to be at work for two minutes more, and its successor must not
    wait for that: this is never a reason not to start.
    """
    for worker in read_workers(client, pool):
        if worker.name != name or not seen_lately(worker, now):
            continue
        if starts_without_end(client, pool, worker):
            assert worker.last_heartbeat_time is not None  # noqa: S101 - it was seen
            heard = worker.last_heartbeat_time.astimezone(UTC)
            return (
                f"worker {name} of work pool {pool} was seen {(now - heard).seconds} s ago (last"
                f" heartbeat {heard:%Y-%m-%d %H:%M:%S} UTC). If it was killed, nothing is to be"
                " done. If it still runs, the server cannot tell it from this one: stop one of"
                " them, or give one another name (-- --name NAME)"
            )
    return None


def starts_without_end(client: SyncPrefectClient, pool: str, worker: Worker) -> list[datetime]:
    """Return when a worker has started since one of its name last ended, the latest start first."""
    asked = {
        "filter": {
            "event": {"name": [STARTED, STOPPED]},
            "resource": {"labels": {"prefect.resource.name": worker.name}},
            "related": {
                "labels": {
                    "prefect.resource.role": "work-pool",
                    "prefect.resource.name": pool,
                }
            },
            "order": "DESC",
        },
        "limit": NEWEST,
    }
    starts = []
    for event in client.request("POST", "/events/filter", json=asked).json()["events"]:
        if event["event"] == STOPPED:
            break
        starts.append(datetime.fromisoformat(event["occurred"]).astimezone(UTC))
    return starts
