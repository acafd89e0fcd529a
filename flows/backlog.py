"""What is overdue, job by job, without a run: for the status, and for the watch over the jobs.

The same statements count as at the end of a run, in READ ONLY transactions with the settings'
time-outs. A count that fails says so, and the others go on.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from flows import (
    cleanup_callback_receipts,
    cleanup_idempotency_keys,
    cleanup_orphaned_containers,
    cleanup_stuck_runs,
    clear_sessions,
    process_purge_retries,
    purge_expired_outputs,
    purge_expired_submissions,
)
from maintenance.access import ACCESS
from maintenance.catalogue import check_schema
from maintenance.containers.engine import why_no_engine
from maintenance.cutoff import Cutoff
from maintenance.database import database_clock, engine_for, transaction
from maintenance.errors import MaintenanceError
from maintenance.expiring import CALLBACK_RECEIPTS, IDEMPOTENCY_KEYS, SESSIONS, ExpiringTable
from maintenance.report import Overdue
from maintenance.settings import settings
from tasks.expiry.expired_rows import DeleteOptions, count_expired
from tasks.orphaned_containers import OrphanOptions, count_orphans
from tasks.purge.options import PurgeOptions
from tasks.purge.outputs import count_overdue_outputs
from tasks.purge.queued_submissions import count_queued
from tasks.purge.submissions import count_overdue
from tasks.stuck.runs import StuckOptions, count_stuck_runs

CONNECT_SECONDS = 3.0
PARALLEL = 4
BATCH_SIZE = 1_000
NAME = "backlog"

Count = Callable[[Cutoff], Overdue | None]


@dataclass(frozen=True)
class Work:
    """What a job has before it.

    Attributes:
        time_budget: how long one of its runs may take, unless a setting says otherwise.
        count: counts what is overdue; None when there is nothing that could be.
        due_after: how long after the moment that the age is counted from a row is due; None when
            that differs from one to the next.
    """

    time_budget: timedelta
    count: Count
    due_after: timedelta | None = timedelta(0)


@dataclass(frozen=True)
class Backlog:
    """What is overdue of one job, or why that is not known."""

    overdue: Overdue | None = None
    due_since: datetime | None = None
    """Since when the oldest is due."""
    problem: str = ""


def read_backlogs() -> dict[str, Backlog]:
    """Count what is overdue of every job."""
    try:
        now = _clock()
    except MaintenanceError as error:
        problem = " ".join(str(error).split())
        return dict.fromkeys(WORK, Backlog(problem=problem))
    cutoff = Cutoff(now, now)
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix=NAME) as pool:
        counted = pool.map(lambda job: _count(job, cutoff), WORK)
        return dict(zip(WORK, counted, strict=True))


def time_budget(job: str) -> timedelta:
    """Return how long a run of a job may take."""
    try:
        current = settings()
    except MaintenanceError:
        return WORK[job].time_budget
    return timedelta(seconds=current.time_budget(WORK[job].time_budget))


def _clock() -> datetime:
    current = settings().model_copy(update={"connect_timeout_seconds": CONNECT_SECONDS})
    with transaction(engine_for(current, NAME), read_only=True) as connection:
        return database_clock(connection)


def _count(job: str, cutoff: Cutoff) -> Backlog:
    work = WORK[job]
    try:
        with transaction(engine_for(settings(), job), read_only=True) as connection:
            check_schema(connection, ACCESS[job], writes=False)
        overdue = work.count(cutoff)
    except MaintenanceError as error:
        return Backlog(problem=" ".join(str(error).split()))
    except Exception as error:  # noqa: BLE001 - the other jobs are counted whatever this one has
        return Backlog(problem=f"unexpected {type(error).__name__}")
    age = overdue.oldest_age_seconds if overdue else None
    if age is None or work.due_after is None:
        return Backlog(overdue)
    return Backlog(overdue, cutoff.started_at - timedelta(seconds=age) + work.due_after)


def _containers(cutoff: Cutoff) -> Overdue | None:
    job = cleanup_orphaned_containers
    if why_no_engine(settings()):
        return None
    grace = timedelta(seconds=job.GRACE_SECONDS)
    return count_orphans.fn(cutoff, OrphanOptions(job.JOB, grace=grace))


def _stuck(cutoff: Cutoff) -> Overdue:
    job = cleanup_stuck_runs
    timeout = timedelta(minutes=job.DEFAULT_MINUTES)
    return count_stuck_runs.fn(cutoff, StuckOptions(job.JOB, BATCH_SIZE, timeout))


def _queue(cutoff: Cutoff) -> Overdue:
    due, _ = count_queued.fn(cutoff, PurgeOptions(process_purge_retries.JOB, BATCH_SIZE))
    return due


def _submissions(cutoff: Cutoff) -> Overdue:
    return count_overdue.fn(cutoff, PurgeOptions(purge_expired_submissions.JOB, BATCH_SIZE))


def _outputs(cutoff: Cutoff) -> Overdue:
    return count_overdue_outputs.fn(cutoff, PurgeOptions(purge_expired_outputs.JOB, BATCH_SIZE))


def _expired(job: str, expiring: ExpiringTable) -> Count:
    options = DeleteOptions(job, expiring, BATCH_SIZE)
    return lambda cutoff: count_expired.fn(cutoff, options, None)


WORK = {
    purge_expired_submissions.JOB: Work(purge_expired_submissions.TIME_BUDGET, _submissions),
    purge_expired_outputs.JOB: Work(purge_expired_outputs.TIME_BUDGET, _outputs),
    process_purge_retries.JOB: Work(process_purge_retries.TIME_BUDGET, _queue),
    cleanup_stuck_runs.JOB: Work(cleanup_stuck_runs.TIME_BUDGET, _stuck),
    cleanup_orphaned_containers.JOB: Work(
        # A container may last as long as it says itself.
        cleanup_orphaned_containers.TIME_BUDGET,
        _containers,
        due_after=None,
    ),
    cleanup_idempotency_keys.JOB: Work(
        cleanup_idempotency_keys.TIME_BUDGET,
        _expired(cleanup_idempotency_keys.JOB, IDEMPOTENCY_KEYS),
        IDEMPOTENCY_KEYS.age,
    ),
    cleanup_callback_receipts.JOB: Work(
        cleanup_callback_receipts.TIME_BUDGET,
        _expired(cleanup_callback_receipts.JOB, CALLBACK_RECEIPTS),
        CALLBACK_RECEIPTS.age,
    ),
    clear_sessions.JOB: Work(
        clear_sessions.TIME_BUDGET, _expired(clear_sessions.JOB, SESSIONS), SESSIONS.age
    ),
}
"""Every job."""
