"""Counting what is overdue for every job, without a run: for the status and the monitoring.

The counts are the ones that end a run, made in READ ONLY transactions with the timeouts of the
settings. When one job's count fails, its entry says why, and the other jobs are still counted.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from flows.job import Job
from flows.jobs import JOBS
from maintenance.access import ACCESS
from maintenance.catalogue import check_schema
from maintenance.cutoff import Cutoff
from maintenance.database import database_clock, engine_for, transaction
from maintenance.errors import MaintenanceError
from maintenance.odd_values import later
from maintenance.outside_text import one_line
from maintenance.report import Overdue
from maintenance.settings import settings

CONNECT_SECONDS = 3.0
PARALLEL = 4
NAME = "backlog"


@dataclass(frozen=True)
class Backlog:
    """What is overdue for one job, or why it could not be counted."""

    overdue: Overdue | None = None
    due_since: datetime | None = None
    """When the oldest overdue item became due."""
    problem: str = ""


def read_backlogs() -> dict[str, Backlog]:
    """Return the backlog of every job, by the job's name."""
    try:
        now = _clock()
    except MaintenanceError as error:
        return dict.fromkeys(JOBS, Backlog(problem=_one_line(error)))
    cutoff = Cutoff(now, now)
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix=NAME) as pool:
        counted = pool.map(lambda job: _count(job, cutoff), JOBS.values())
        return dict(zip(JOBS, counted, strict=True))


def time_budget(job: str) -> timedelta:
    """Return how long a run of a job may work: the setting, or without one the job's own."""
    default = JOBS[job].time_budget
    try:
        return timedelta(seconds=settings().time_budget(default))
    except MaintenanceError:
        return default


def _clock() -> datetime:
    current = settings().model_copy(update={"connect_timeout_seconds": CONNECT_SECONDS})
    with transaction(engine_for(current, NAME), read_only=True) as connection:
        return database_clock(connection)


def _count(job: Job, cutoff: Cutoff) -> Backlog:
    try:
        with transaction(engine_for(settings(), job.name), read_only=True) as connection:
            check_schema(connection, ACCESS[job.name], writes=False)
        overdue = job.count_overdue(cutoff, job.name)
    except MaintenanceError as error:
        return Backlog(problem=_one_line(error))
    except Exception as error:  # noqa: BLE001 - the other jobs are counted all the same
        return Backlog(problem=f"unexpected {type(error).__name__}")
    age = overdue.oldest_age_seconds if overdue else None
    if age is None or job.due_after is None:
        return Backlog(overdue)
    due = later(later(cutoff.started_at, -timedelta(seconds=age)), job.due_after)
    return Backlog(overdue, due)


def _one_line(error: MaintenanceError) -> str:
    return one_line(str(error))
