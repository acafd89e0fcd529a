"""The runs of a day, as the Prefect server lists them, and scheduled moments without a run."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from demo.api import FINAL_STATES
from demo.servers import PrefectServer
from deployments.setup.automations.rescue import DEAD_INFRASTRUCTURE
from deployments.worker_settings import PREFETCH_SECONDS
from tests.support.chaos import Struck
from tests.support.chaos_day import EVERY_SECONDS, Day
from tests.support.prefect_server import ask, deployments

REACTION = timedelta(seconds=15)
"""After so long, a crashed run is not started again."""
POLL_SECONDS = 0.25
LOOK_AHEAD = timedelta(seconds=float(PREFETCH_SECONDS) + 1)
PAGE = 200


@dataclass(frozen=True)
class Run:
    """A run of a job."""

    id: str
    job: str
    state: str
    message: str
    starts: int
    ended: datetime | None

    @property
    def left(self) -> bool:
        """Whether it has not ended, or will be started again."""
        if self.state not in FINAL_STATES:
            return True
        killed = self.state == "CRASHED" and any(
            self.message.startswith(begin.rstrip("*")) for begin in DEAD_INFRASTRUCTURE
        )
        return killed and self.ended is not None and datetime.now(UTC) < self.ended + REACTION


def _all_runs(prefect: PrefectServer) -> list[tuple[str, dict[str, Any]]]:
    jobs = {one["id"]: job for job, one in deployments(prefect).items()}
    found: list[dict[str, Any]] = []
    while len(found) % PAGE == 0:
        page = ask(prefect, "POST", "/flow_runs/filter", {"offset": len(found), "limit": PAGE})
        found += page
        if not page:
            break
    return [(jobs[one["deployment_id"]], one) for one in found]


def read_runs(prefect: PrefectServer) -> dict[str, Run]:
    """Return all runs by their identifiers."""
    return {
        (run := UUID(one["id"]).hex): Run(
            run,
            job,
            one["state_type"],
            (one["state"] or {}).get("message") or "",
            one["run_count"],
            datetime.fromisoformat(one["end_time"]) if one["end_time"] else None,
        )
        for job, one in _all_runs(prefect)
    }


def histories(prefect: PrefectServer) -> list[str]:
    """Tell of all runs when they came to which state, for a failing test."""
    told = []
    for job, run in sorted(_all_runs(prefect), key=lambda one: one[1]["expected_start_time"]):
        states = ask(prefect, "GET", f"/flow_run_states/?flow_run_id={run['id']}")
        told.append(f"{run['expected_start_time'][11:19]} {UUID(run['id']).hex} {job}")
        told += [
            f"    {state['timestamp'][11:21]} {state['name']} {state['message'] or ''}"
            for state in sorted(states, key=lambda one: one["timestamp"])
        ]
    return told


def wait_for_schedule(prefect: PrefectServer, day: Day) -> dict[str, datetime]:
    """Wait until the server has made the runs of a day; return when each is due."""
    expected = {(job, at) for job in EVERY_SECONDS for at in day.windows(job)}
    made: dict[str, tuple[str, datetime]] = {}
    while set(made.values()) != expected:
        assert datetime.now(UTC) < day.start, "the server did not schedule the day in time"
        time.sleep(POLL_SECONDS)
        made = {
            UUID(one["id"]).hex: (job, datetime.fromisoformat(one["expected_start_time"]))
            for job, one in _all_runs(prefect)
            if one["auto_scheduled"]
        }
    return {run: at for run, (_, at) in made.items()}


def not_served(
    runs: dict[str, Run],
    due: dict[str, datetime],
    struck: Sequence[Struck],
    late: timedelta,
    rescue: Callable[[Struck, Sequence[Struck]], timedelta],
) -> list[str]:
    """Say which scheduled moments had no run.

    A moment is served when a run of its job completes then or within `late`; also when one does so
    just before, that was still going when the worker looked ahead. In an outage, the next moment at
    which the job is due serves this one, too: one run catches up. An outage is the time of a crash;
    for a job that had a run then, with the time that the rescue of it may take.
    """
    problems = [f"the run due at {at} is gone" for run, at in due.items() if run not in runs]
    by_job: dict[str, list[datetime]] = defaultdict(list)
    for run, at in due.items():
        if run in runs:
            by_job[runs[run].job].append(at)
    for job, moments in by_job.items():
        completed = [
            one.ended
            for one in runs.values()
            if one.job == job and one.state == "COMPLETED" and one.ended is not None
        ]
        mine = {one.id for one in runs.values() if one.job == job}
        outages = [
            (one.began, one.ended + (rescue(one, struck) if one.runs & mine else timedelta(0)))
            for one in struck
        ]
        latest = datetime.max.replace(tzinfo=UTC)
        for at in sorted(moments, reverse=True):
            if not any(began <= at + late and at <= ended for began, ended in outages):
                latest = at + late
            if not any(at - LOOK_AHEAD <= ended <= latest for ended in completed):
                problems.append(f"{job} due at {at} was not served until {latest}")
    return problems
