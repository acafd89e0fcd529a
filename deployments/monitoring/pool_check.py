"""Preflight of the work pool: it is there, runs in it may start, and a worker serves it."""

from collections.abc import Iterator
from datetime import UTC, datetime

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import WorkPool, WorkQueue
from prefect.exceptions import ObjectNotFound

from deployments.monitoring.job_state import read_workers, seen_lately, unseen_since
from deployments.monitoring.worker_names import starts_without_end
from deployments.names import WORK_POOL
from maintenance.checks.finding import Finding, error, not_checked, ok, warning

POOL, WORKER = "work pool", "worker"
APPLY = "set it up with: python -m deployments"


def check_pool(client: SyncPrefectClient) -> list[Finding]:
    """Return the findings about the pool and its workers.

    A pool or a queue that is paused, or whose concurrency limit is 0, is an error: workers are
    there, and no run starts.
    """
    try:
        pool = client.read_work_pool(WORK_POOL)
        queues = client.read_work_queues(work_pool_name=WORK_POOL)
    except ObjectNotFound:
        missing = error(POOL, f"there is no work pool {WORK_POOL}", APPLY)
        return [missing, *not_checked([WORKER], "there is no work pool")]
    return [_pool(pool, queues), _worker(client)]


def _pool(pool: WorkPool, queues: list[WorkQueue]) -> Finding:
    text = f"{pool.name}, type {pool.type}"
    found = [*_of_pool(pool), *(one for queue in queues for one in _of_queue(queue))]
    if not found:
        return ok(POOL, text)
    causes, actions = zip(*found, strict=True)
    return error(POOL, f"{text}; no run starts: {', '.join(causes)}", "; ".join(actions))


def _of_pool(pool: WorkPool) -> Iterator[tuple[str, str]]:
    """Yield what keeps runs of the pool from starting, each with the command that changes it."""
    if pool.is_paused:
        yield "it is paused", f"prefect work-pool resume {pool.name}"
    if pool.concurrency_limit == 0:
        yield "its concurrency limit is 0", f"prefect work-pool clear-concurrency-limit {pool.name}"


def _of_queue(queue: WorkQueue) -> Iterator[tuple[str, str]]:
    named = f"'{queue.name}' --pool {WORK_POOL}"
    if queue.is_paused:
        yield f"work queue {queue.name} is paused", f"prefect work-queue resume {named}"
    if queue.concurrency_limit == 0:
        yield (
            f"the concurrency limit of work queue {queue.name} is 0",
            f"prefect work-queue clear-concurrency-limit {named}",
        )


def _worker(client: SyncPrefectClient) -> Finding:
    now = datetime.now(UTC)
    workers = read_workers(client)
    present = sorted((one for one in workers if seen_lately(one, now)), key=lambda one: one.name)
    for one in present:
        starts = starts_without_end(client, WORK_POOL, one)
        if len(starts) > 1:
            latest, before = (f"{start:%Y-%m-%d %H:%M:%S}" for start in starts[:2])
            return warning(
                WORKER,
                f"{one.name} was started at {latest} UTC, and the one of {before} UTC has not"
                " ended: it was killed, or two workers have this name",
                f"stop it, and check again after two minutes: if {one.name} is still seen, another"
                " one runs, which needs another name (-- --name NAME). Then start it again",
            )
    if present:
        return ok(WORKER, f"seen lately: {', '.join(one.name for one in present)}")
    action = "start one with: python -m deployments.worker"
    return error(WORKER, unseen_since(workers), action)
