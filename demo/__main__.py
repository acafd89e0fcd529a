"""`python -m demo`: watch the maintenance jobs do real work on sample data.

In one folder it starts an embedded PostgreSQL with a Validibot database, a Prefect server and a
worker, applies prefect.yaml, and runs jobs through the worker: a dry run of the main purge, the
three purges, the watchdog, and the clearing of sessions. Then it serves the schedules until
Ctrl-C, or ends (--once). Every start is fresh: database, files and Prefect's history of an earlier
demo are deleted.
"""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

import httpx
import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from demo.application import Application, Counts, application
from demo.directory import DemoDirectory, demo_directory
from demo.embedded import EmbeddedServerError
from demo.environment import clean_environment
from demo.processes import Child, ChildFailed, last_words, start_child, wait_until
from demo.runs import run_deployment
from demo.servers import PrefectServer, start_worker
from deployments.names import DEPLOYMENT, WORK_POOL
from maintenance.command_line import Parser, run_command
from maintenance.errors import MaintenanceError
from maintenance.outside_text import one_line, visible
from maintenance.wording import human_bytes

OK, FAILED, INTERRUPTED = 0, 1, 130
DIRECTORY = Path(".demo")
SUBMISSIONS = 2_000
MAX_SUBMISSIONS = 1_000_000
APPLY_SECONDS = 180.0
WORKER_STOP_SECONDS = 5.0
"""A worker that is asked to end waits for its runs, which nobody needs when the demo ends."""
WATCH_SECONDS = 0.5
RUNS: tuple[tuple[str, dict[str, bool]], ...] = (
    ("purge-expired-submissions", {"dry_run": True}),
    ("purge-expired-submissions", {}),
    ("purge-expired-outputs", {}),
    ("process-purge-retries", {}),
    ("cleanup-stuck-runs", {}),
    ("clear-sessions", {}),
)


def say(text: str = "", *, end: str = "\n") -> None:
    """Print a text, parts of which come from other programs, and show it at once."""
    print(visible(text), end=end, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell the whole story; return the exit status."""
    options = _parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        with demo_directory(options.directory.resolve()) as directory:
            environment = clean_environment(os.environ, directory.root)
            os.environ.clear()
            os.environ.update(environment)  # PostgreSQL and its client library read it, too
            return _tell(directory, environment, options)
    except KeyboardInterrupt:
        return _complain("stopped before its end; nothing was left running", INTERRUPTED)
    except MaintenanceError as error:
        return _complain(str(error), FAILED)
    except DBAPIError as error:
        return _complain(f"PostgreSQL: {_one_line(error.orig or error)}", FAILED)
    except BrokenPipeError:
        raise  # the reader of the output is gone
    except OSError as error:
        cause = error.strerror or _one_line(error)
        return _complain(f"{cause}: {error.filename or options.directory}", FAILED)
    except (psycopg.Error, SQLAlchemyError, httpx.HTTPError) as error:
        return _complain(_one_line(error), FAILED)


def _tell(
    directory: DemoDirectory, environment: dict[str, str], options: argparse.Namespace
) -> int:
    log = directory.logs / "demo.log"  # the embedded server says there why it does not start
    logging.basicConfig(filename=log, level=logging.WARNING)
    say(f"Validibot's maintenance jobs at work on sample data, in {directory.root}\n")
    with ExitStack() as stack:
        with _step("Starting PostgreSQL"):
            site = _start_application(stack, directory, log)
            server = stack.enter_context(
                PrefectServer(directory.prefect, directory.logs, environment)
            )
        with _step(f"Making a Validibot with {options.size:,} submissions"):
            site.fill(options.size)
        with _step("Starting a Prefect server"):
            server.wait_until_ready()
        with _step("Applying prefect.yaml and starting a worker"):
            clients = environment | server.client_settings
            applying = start_child(
                "python -m deployments",
                [sys.executable, "-m", "deployments"],
                directory.logs / "deployments.log",
                clients,
            )
            stack.callback(applying.stop, 0)
            wait_until(
                lambda: server.api.has_work_pool(WORK_POOL),
                APPLY_SECONDS,
                "making the work pool",
                (applying, server.child),
            )
            worker = start_worker(directory.logs, clients | site.environment)
            stack.callback(worker.stop, WORKER_STOP_SECONDS)
            applying.wait(APPLY_SECONDS)
        say("\n" + _indented(applying.said()))
        status = _run_jobs(server, worker, site)
        say(f"\nPrefect's UI: {server.api.address} (log in with {server.login})")
        if not options.once:
            say("The schedules are being served. Ctrl-C ends the demo.")
            with suppress(KeyboardInterrupt):
                _watch((worker, server.child))
        say("Stopping.")
    return status


def _start_application(stack: ExitStack, directory: DemoDirectory, log: Path) -> Application:
    try:
        return stack.enter_context(application(directory.postgres, directory.storage))
    except EmbeddedServerError as error:
        said = last_words(log) if log.stat().st_size else f": {error}"
        raise ChildFailed(f"PostgreSQL did not start{said}") from error


def _run_jobs(server: PrefectServer, worker: Child, site: Application) -> int:
    before = site.count()
    say(
        f"\nValidibot has {before.submissions_with_content:,} submissions with content,"
        f" {before.expired_submissions:,} of them past their deadline,"
        f" and {before.expired_sessions:,} expired sessions."
    )
    all_completed = True
    for job, parameters in RUNS:
        options = "".join(f" -p {name}={str(value).lower()}" for name, value in parameters.items())
        say(f"\n$ prefect deployment run {job}/{DEPLOYMENT}{options}\n ", end="")
        started = time.monotonic()
        with _unfinished_line():
            run = run_deployment(
                server.api,
                f"{job}/{DEPLOYMENT}",
                parameters,
                (worker, server.child),
                lambda state: say(f" {state}", end=""),
            )
        say(f" ({time.monotonic() - started:.1f} s)\n  {run.state.message}\n  {run.page}")
        if run.report:
            say(f"  report: {run.report}")
        all_completed &= run.state.completed
    after = site.count()
    say("\n" + _table(before, after))
    if not all_completed:
        return _complain("a run did not complete; its page and its log say why", FAILED)
    if after.expired_submissions or after.expired_sessions:
        return _complain("the database still has content past its deadline", FAILED)
    return OK


def _table(before: Counts, after: Counts) -> str:
    labels = {
        "expired_submissions": "submissions with content past their deadline",
        "submissions_in_use": "  kept, because a run is still active",
        "submissions_with_content": "all submissions with content",
        "files": "files",
        "file_bytes": "  their size",
        "hung_runs": "runs that were ended because they hung",
        "expired_sessions": "expired sessions",
        "live_sessions": "sessions not expired at the start",
    }
    lines = [f"{'':46}{'before':>12}{'after':>12}"]
    for name, label in labels.items():
        shown = human_bytes if name == "file_bytes" else "{:,}".format
        cells = [shown(getattr(counts, name)) for counts in (before, after)]
        lines.append(f"{label:46}{cells[0]:>12}{cells[1]:>12}")
    return "\n".join(lines)


def _watch(children: Sequence[Child]) -> None:
    while True:
        for child in children:
            child.check()
        time.sleep(WATCH_SECONDS)


@contextmanager
def _step(what: str) -> Iterator[None]:
    say(f"  {what} ...", end="")
    started = time.monotonic()
    with _unfinished_line():
        yield
    say(f" {time.monotonic() - started:.1f} s")


@contextmanager
def _unfinished_line() -> Iterator[None]:
    """End the line first when something fails, so that the complaint begins one."""
    try:
        yield
    except BaseException:
        say()
        raise


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _one_line(error: BaseException) -> str:
    return one_line(str(error)) or type(error).__name__


def _complain(message: str, status: int) -> int:
    sys.stdout.flush()
    print(f"demo: {visible(message)}", file=sys.stderr)
    return status


def _stop(_number: int, _frame: FrameType | None) -> None:
    """End the demo, once: a second Ctrl-C must not interrupt the end of its processes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", help="end after the runs")
    parser.add_argument(
        "--size", type=_size, default=SUBMISSIONS, help="submissions (default: %(default)s)"
    )
    parser.add_argument(
        "--directory", type=Path, default=DIRECTORY, help="the demo's folder (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def _size(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_SUBMISSIONS:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {MAX_SUBMISSIONS:,}")
    return int(text)


if __name__ == "__main__":
    run_command(main)
