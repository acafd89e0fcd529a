"""Lateness of a job: by its schedules, and by its oldest overdue row.

A job may miss two windows (a worker restarts, a run is skipped because another one holds the
guard), and a run may use its time budget. After that the job is late. Everything here is decided
from data that was read before; no server is needed.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from prefect.client.schemas.objects import DeploymentSchedule

from deployments.due import next_dates
from deployments.monitoring.job_state import JobState
from flows.backlog import Backlog
from maintenance.wording import human_age

MISSED_WINDOWS = 2
TICK = timedelta(seconds=1)


def late(state: JobState, backlog: Backlog, budget: timedelta, now: datetime) -> list[str]:
    """Return why a job is late; an empty list if it is not, or if none of its schedules is active.

    Args:
        state: the job on the Prefect server.
        backlog: what is overdue of it.
        budget: its time budget.
        now: the time of the decision.
    """
    if state.deployment is None:
        return ["is not deployed, so it never runs; `python -m deployments` deploys it"]
    schedules = state.active
    if not schedules:
        return []
    # The windows of a schedule count from when it was created, edited or resumed.
    since = max(one.updated or one.created or now for one in schedules)
    reasons = []
    done = state.last_work.start_time if state.last_work else None
    if _passed(schedules, max(since, done or since), budget, now):
        when = f"last did its work at {done:%Y-%m-%d %H:%M} UTC" if done else "never did its work"
        reasons.append(f"{when}, and has missed {MISSED_WINDOWS} windows of {state.schedule}")
    due = backlog.due_since
    if due is not None and _passed(schedules, max(since, due), budget, now):
        rows = backlog.overdue.rows if backlog.overdue else 0
        age = human_age((now - due).total_seconds())
        reasons.append(f"{rows:,} rows are overdue, the oldest for {age}")
    return reasons


def windows(
    schedules: Sequence[DeploymentSchedule], since: datetime, number: int
) -> list[datetime]:
    """Return the first times after `since` at which any of the schedules starts a run."""
    found: set[datetime] = set()
    for schedule in schedules:
        coming = next_dates(schedule.schedule, number, since + TICK)
        found.update(datetime.fromtimestamp(moment.timestamp(), UTC) for moment in coming)
    return sorted(found)[:number]


def _passed(
    schedules: Sequence[DeploymentSchedule], since: datetime, budget: timedelta, now: datetime
) -> bool:
    missed = windows(schedules, since, MISSED_WINDOWS)
    return len(missed) == MISSED_WINDOWS and missed[-1] + budget < now
