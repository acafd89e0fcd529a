"""The status of all jobs: schedule, last run, next run, and what is overdue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deployments.client import ServerUnavailable, server
from deployments.monitoring.job_state import JobState, read_job
from deployments.monitoring.problems import uncounted
from deployments.table import aligned
from flows.backlog import Backlog, read_backlogs
from flows.jobs import JOBS
from maintenance.wording import human_age

HEADER = ("job", "schedule", "paused", "last run", "result", "next run", "overdue", "oldest")
UNKNOWN = "?"


@dataclass(frozen=True)
class JobStatus:
    """One job: its state on the server (None if that does not answer) and its backlog."""

    job: str
    state: JobState | None
    backlog: Backlog


@dataclass(frozen=True)
class Status:
    """All jobs, and what could not be read."""

    jobs: Sequence[JobStatus]
    problems: Sequence[str]


def read_status() -> Status:
    """Read from the Prefect server and count in the database; a failure becomes a problem."""
    problems = []
    states: dict[str, JobState] = {}
    try:
        with server() as client:
            for job in JOBS:
                states[job] = read_job(client, job)
    except ServerUnavailable as error:
        problems.append(str(error))
    backlogs = read_backlogs()
    problems += uncounted(backlogs)
    found = [JobStatus(job, states.get(job), backlogs[job]) for job in JOBS]
    return Status(found, problems)


def as_json(status: Status) -> dict[str, Any]:
    """Return the status as JSON values."""
    return {
        "jobs": [_job_as_json(one) for one in status.jobs],
        "problems": list(status.problems),
    }


def as_table(status: Status) -> str:
    """Return the jobs as an aligned table."""
    return aligned([HEADER, *(_row(one) for one in status.jobs)])


def _row(status: JobStatus) -> tuple[str, ...]:
    overdue, oldest = _backlog(status.backlog)
    state = status.state
    if state is None:
        return (status.job, *([UNKNOWN] * 5), overdue, oldest)
    run = state.last_run
    return (
        status.job,
        state.schedule,
        "yes" if state.paused else "no",
        _minute(run.start_time if run else None),
        (run.state_name or "") if run else "never ran",
        _minute(state.next_run),
        overdue,
        oldest,
    )


def _backlog(backlog: Backlog) -> tuple[str, str]:
    if backlog.problem:
        return UNKNOWN, UNKNOWN
    if backlog.overdue is None:
        return "-", "-"
    about = "about " if backlog.overdue.estimated else ""
    age = backlog.overdue.oldest_age_seconds
    return f"{about}{backlog.overdue.rows:,}", "-" if age is None else human_age(age)


def _job_as_json(status: JobStatus) -> dict[str, Any]:
    backlog = status.backlog
    overdue = backlog.overdue
    found: dict[str, Any] = {
        "job": status.job,
        "overdue": overdue.model_dump() if overdue else None,
        "overdue_problem": backlog.problem or None,
    }
    return found | (_state_as_json(status.state) if status.state else {"deployed": None})


def _state_as_json(state: JobState) -> dict[str, Any]:
    run, work = state.last_run, state.last_work
    last = None
    if run is not None:
        last = {
            "id": str(run.id),
            "state": run.state_name,
            "message": run.state.message if run.state else None,
            "started": _iso(run.start_time),
            "ended": _iso(run.end_time),
        }
    return {
        "deployed": state.deployment is not None,
        "schedule": state.schedule,
        "paused": state.paused,
        "last_run": last,
        "last_success": _iso(work.start_time) if work else None,
        "next_run": _iso(state.next_run),
    }


def _minute(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "-"


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
