"""`python -m deployments.watch`: tell when jobs have not run, and end runs that are dead.

It depends on none of them: it asks the Prefect server for schedules, runs and workers, counts in
the application's database what is overdue, and runs beside both. A job is late when it missed two
windows of its schedule and used up its time budget since it last did its work, or when a row has
been overdue for so long. A paused job is never late.

What is wrong is printed, and told to Prefect as the event `validibot-maintenance.not-run`: once,
and again every hour while it lasts. A server or a database that does not answer is wrong, too, and
ends nothing here. With --once the exit status is 1 when something is wrong.

Every minute it also looks for runs that say Running or Pending although their process is gone, and
marks them as Crashed, most of them to be started again (`deployments/monitoring/zombie_runs.py`).
That is printed, and wrong only when it cannot be done.
"""

import argparse
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import FrameType

from prefect.client.orchestration import SyncPrefectClient
from prefect.events import Event
from prefect.exceptions import ObjectNotFound

from deployments.client import ServerUnavailable, server
from deployments.monitoring.job_state import JobState, read_job, read_workers, seen_lately
from deployments.monitoring.lateness import late
from deployments.monitoring.zombie_runs import mark_dead_runs
from deployments.names import WORK_POOL
from flows.backlog import Backlog, read_backlogs, time_budget
from flows.jobs import JOBS

OK, WRONG = 0, 1
NOT_RUN = "validibot-maintenance.not-run"
OURS = "validibot-maintenance"
INTERVAL = 300.0
SWEEP_INTERVAL = 60.0
"""Seconds between looks for dead runs. It is a few small requests, which count no rows."""
SHORTEST_INTERVAL = 1.0
AGAIN = timedelta(hours=1)
MAX_TEXT = 1_000
ALWAYS = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Problem:
    """Something that is wrong: of what, and what it is."""

    resource: str
    name: str
    text: str

    def __str__(self) -> str:
        """Write it as one line."""
        return f"{self.name}: {self.text}"


@dataclass
class Told:
    """What was told when, so that it is not told at every look."""

    since: dict[str, datetime] = field(default_factory=dict)

    def due(self, problems: Sequence[Problem], now: datetime) -> list[Problem]:
        """Return the problems to tell now; those that have ended are forgotten."""
        present = {one.resource for one in problems}
        self.since = {name: when for name, when in self.since.items() if name in present}
        return [
            one
            for one in problems
            if one.resource not in self.since or now - self.since[one.resource] >= AGAIN
        ]

    def tell(self, client: SyncPrefectClient, problems: Sequence[Problem], now: datetime) -> None:
        """Emit an event for each problem that is to be told now."""
        due = self.due(problems, now)
        if due:
            events = [_event(one).model_dump(mode="json") for one in due]
            client.request("POST", "/events", json=events)
            self.since |= dict.fromkeys((one.resource for one in due), now)


def main(arguments: Sequence[str] | None = None) -> int:
    """Look once, or again and again until a signal ends it; return the exit status."""
    options = _parse(arguments)
    told = Told()
    if options.once:
        swept = sweep(ALWAYS, datetime.now(UTC))
        return WRONG if _look_and_print(told) or swept is None else OK
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    # The first process of a container has no other way to be ended.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    watched_since: datetime | None = None
    due = time.monotonic()
    while not stopped.is_set():
        watched_since = sweep(watched_since, datetime.now(UTC))
        if time.monotonic() >= due:
            _look_and_print(told)
            due = time.monotonic() + options.interval
        stopped.wait(max(0.0, min(SWEEP_INTERVAL, due - time.monotonic())))
    return OK


def sweep(watched_since: datetime | None, now: datetime) -> datetime | None:
    """Mark and print the runs that are dead.

    Args:
        watched_since: since when the server has answered at every look; None when it did not.
        now: the moment of this look.

    Returns:
        What to give to the next look: None when the server could not be asked, so that silence
        counts from when it is back.
    """
    since = watched_since or now
    try:
        with server() as client:
            for one in mark_dead_runs(client, now, since):
                _print(now, f"CRASHED {one}")
    except ServerUnavailable as error:
        _print(now, f"dead runs cannot be looked for: {error}")
        return None
    except Exception as error:  # noqa: BLE001 - a watch that ends watches nothing
        _print(now, f"dead runs cannot be looked for: unexpected {type(error).__name__}")
        return None
    return since


def look(told: Told, now: datetime) -> list[Problem]:
    """Return what is wrong, and tell Prefect; whatever happens is a problem, never an error."""
    problems: list[Problem] = []
    try:
        backlogs = read_backlogs()
        problems += _uncounted(backlogs)
        with server() as client:
            states = [read_job(client, job) for job in JOBS]
            problems += _workers(client, states, now)
            problems += _late(states, backlogs, now)
            told.tell(client, problems, now)
    except ServerUnavailable as error:
        problems.append(Problem(f"{OURS}.server", "Prefect server", str(error)))
    except Exception as error:  # noqa: BLE001 - a watch that ends watches nothing
        text = f"unexpected {type(error).__name__} while looking"
        problems.append(Problem(f"{OURS}.watch", "watch", text))
    return problems


def _late(
    states: Sequence[JobState], backlogs: Mapping[str, Backlog], now: datetime
) -> list[Problem]:
    found = {state.job: _reasons(state, backlogs[state.job], now) for state in states}
    return [
        Problem(f"{OURS}.job.{job}", job, "; ".join(reasons)[:MAX_TEXT])
        for job, reasons in found.items()
        if reasons
    ]


def _reasons(state: JobState, backlog: Backlog, now: datetime) -> list[str]:
    try:
        return late(state, backlog, time_budget(state.job), now)
    except Exception as error:  # noqa: BLE001 - a schedule that makes no sense hides no other job
        return [f"whether it is late cannot be told: unexpected {type(error).__name__}"]


def _workers(client: SyncPrefectClient, states: Sequence[JobState], now: datetime) -> list[Problem]:
    """Return that nobody serves the jobs, unless nothing is scheduled."""
    if not any(state.active for state in states):
        return []
    workers = []
    with suppress(ObjectNotFound):
        workers = read_workers(client)
    if any(seen_lately(one, now) for one in workers):
        return []
    heard = workers[0].last_heartbeat_time if workers else None
    since = f"none seen since {heard:%Y-%m-%d %H:%M} UTC" if heard else "none was ever seen"
    return [Problem(f"{OURS}.worker", f"worker of {WORK_POOL}", f"{since}, so no run starts")]


def _uncounted(backlogs: Mapping[str, Backlog]) -> list[Problem]:
    causes: dict[str, list[str]] = {}
    for job, backlog in backlogs.items():
        if backlog.problem:
            causes.setdefault(backlog.problem, []).append(job)
    if not causes:
        return []
    texts = [
        f"what is overdue of {'any job' if len(jobs) == len(JOBS) else ', '.join(jobs)}"
        f" cannot be counted: {cause}"
        for cause, jobs in causes.items()
    ]
    return [Problem(f"{OURS}.backlog", "backlog", "; ".join(texts)[:MAX_TEXT])]


def _event(problem: Problem) -> Event:
    return Event(
        event=NOT_RUN,
        resource={"prefect.resource.id": problem.resource, "prefect.resource.name": problem.name},
        payload={"name": problem.name, "reason": problem.text},
    )


def _look_and_print(told: Told) -> list[Problem]:
    now = datetime.now(UTC)
    problems = look(told, now)
    lines = [f"NOT RUN {one}" for one in problems] or [f"ok: {len(JOBS)} jobs watched"]
    for line in lines:
        _print(now, line)
    return problems


def _print(now: datetime, line: str) -> None:
    print(f"{now:%Y-%m-%d %H:%M:%S} UTC {line}", flush=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deployments.watch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", help="look once and end with 0 or 1")
    parser.add_argument(
        "--interval", type=_seconds, default=INTERVAL, help="seconds between looks (%(default)s)"
    )
    return parser.parse_args(arguments)


def _seconds(text: str) -> float:
    number = 0.0
    with suppress(ValueError):
        number = float(text)
    if not SHORTEST_INTERVAL <= number <= threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"must be a number of at least {SHORTEST_INTERVAL:g}")
    return number


if __name__ == "__main__":
    sys.exit(main())
