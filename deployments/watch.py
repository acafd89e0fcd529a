"""`python -m deployments.watch`: report jobs that do not run, and end zombie runs.

The watch depends on no job. It reads schedules, runs and workers from the Prefect server and counts
in the application's database what is overdue. A job is late when it has missed two windows of its
schedule and its time budget has passed since it last did its work, or when a row has been overdue
for that long. A paused job is never late. Celery Beat is a problem while it starts the same jobs.
Continuations that Validibot does not finish are a problem, too: its own command must be run.

Each problem is printed, and reported to Prefect as the event `validibot-maintenance.not-run`: once,
and again every hour while it lasts. A server or a database that does not answer is a problem too,
and does not end the watch. With --once the exit status is 1 if there is a problem.

Every minute the watch also marks zombie runs (flow runs that say Running or Pending although their
process is gone) as Crashed, most of them to be started again
(`deployments/monitoring/zombie_runs.py`). Each is printed. Only a failure to check is a problem.
"""

import argparse
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import FrameType

from prefect.exceptions import ObjectNotFound

from deployments.client import ServerUnavailable, send_events, server
from deployments.monitoring.beat import beat_problems
from deployments.monitoring.continuations import continuation_problems
from deployments.monitoring.job_state import read_job, read_workers
from deployments.monitoring.problems import Problem, Reported, backlog_problems, find_problems
from deployments.monitoring.zombie_runs import mark_zombies
from deployments.names import DEPLOYMENT
from deployments.setup.remembered import remember
from flows.backlog import read_backlogs
from flows.jobs import JOBS
from flows.run.events import PREFIX
from maintenance.command_line import Parser, run_command
from maintenance.outside_text import one_line

OK, WRONG = 0, 1
INTERVAL = 300.0
ZOMBIE_INTERVAL = 60.0
"""Seconds between checks for zombie runs: a few small requests, which count no rows."""
SHORTEST_INTERVAL = 1.0
ALWAYS = datetime.min.replace(tzinfo=UTC)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check once, or at intervals until a signal ends the watch; return the exit status."""
    options = _parse(arguments)
    reported = Reported()
    if options.once:
        checked = end_zombies(ALWAYS, datetime.now(UTC))
        return WRONG if _check_and_print(reported) or checked is None else OK
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    # The first process of a container is ended by no signal that it does not handle.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    observed_since: datetime | None = None
    due = time.monotonic()
    while not stopped.is_set():
        observed_since = end_zombies(observed_since, datetime.now(UTC))
        if time.monotonic() >= due:
            _check_and_print(reported)
            due = time.monotonic() + options.interval
        stopped.wait(max(0.0, min(ZOMBIE_INTERVAL, due - time.monotonic())))
    return OK


def end_zombies(observed_since: datetime | None, now: datetime) -> datetime | None:
    """Mark zombie runs as Crashed, and print them.

    Args:
        observed_since: since when the server has answered every check; None if it did not answer
            the last one.
        now: the time of this check.

    Returns:
        `observed_since` for the next check: None if the server did not answer, so that silence
        counts only from when it is back.
    """
    since = observed_since or now
    try:
        with server() as client:
            for marked in mark_zombies(client, now, since):
                _print(now, f"CRASHED {marked}")
    except ServerUnavailable as error:
        _print(now, f"cannot check for zombie runs: {error}")
        return None
    except Exception as error:  # noqa: BLE001 - the watch must not end
        _print(now, f"cannot check for zombie runs: unexpected {type(error).__name__}")
        return None
    return since


def check(reported: Reported, now: datetime) -> list[Problem]:
    """Return all problems and report those that are due; a failure to check is a problem too."""
    problems: list[Problem] = []
    try:
        backlogs = read_backlogs()
        problems += backlog_problems(backlogs)
        problems += beat_problems()
        problems += continuation_problems()
        with server() as client:
            states = [read_job(client, job) for job in JOBS]
            live = {_name(one.job): one.deployment for one in states if one.deployment}
            remember(client, live)
            workers = []
            with suppress(ObjectNotFound):  # no work pool
                workers = read_workers(client)
            problems += find_problems(states, workers, backlogs, now)
            due = reported.due(problems, now)
            send_events(client, [problem.to_event() for problem in due])
            reported.add(due, now)
    except ServerUnavailable as error:
        problems.append(Problem(f"{PREFIX}.server", "Prefect server", str(error)))
    except Exception as error:  # noqa: BLE001 - the watch must not end
        text = f"unexpected {type(error).__name__} during the check"
        problems.append(Problem(f"{PREFIX}.watch", "watch", text))
    return problems


def _name(job: str) -> str:
    return f"{job}/{DEPLOYMENT}"


def _check_and_print(reported: Reported) -> list[Problem]:
    now = datetime.now(UTC)
    problems = check(reported, now)
    lines = [f"NOT RUN {problem}" for problem in problems] or [f"ok: {len(JOBS)} jobs watched"]
    for line in lines:
        _print(now, line)
    return problems


def _print(now: datetime, line: str) -> None:
    print(f"{now:%Y-%m-%d %H:%M:%S} UTC {one_line(line)}", flush=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m deployments.watch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", help="check once and exit with 0 or 1")
    parser.add_argument(
        "--interval", type=_seconds, default=INTERVAL, help="seconds between checks (%(default)s)"
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
    run_command(main)
