"""`python -m flows JOB [options]`: run a job's flow in this process (SPEC 9).

Ctrl-C and SIGTERM end the run after the current batch. The report of what was done is printed, and
the exit status is the one that a shell gives to a command that was ended by the signal: 130 or 143.
"""

import argparse
import json
import logging
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from prefect.client.schemas.objects import State
from prefect.exceptions import (
    ParameterTypeError,
    SignatureMismatchError,
    TerminationSignal,
)

from flows.job import Job
from flows.jobs import JOBS
from flows.options import parameters_of, parser
from flows.run.final_state import RunStopped, UnfinishedRun, attached_report
from flows.run.offline import without_server
from flows.run.prefect_context import LOGGER
from flows.run.progress import CLEAR, on_terminal
from flows.run.server_access import why_no_server
from flows.validation import validated
from maintenance import stop_request
from maintenance.command_line import run_command, say
from maintenance.errors import MaintenanceError, ParameterError, SettingsError
from maintenance.outside_text import one_line
from maintenance.report import Report, StopReason
from maintenance.report_terminal import as_text
from tasks.patience import by_hand

OK, FAILED, BAD_OPTIONS = 0, 1, 2
ENDED_BY_SIGNAL = 128
"""The exit status after a signal is this plus the number of the signal."""

JSON_OPTION = "--json"
BAD_PARAMETERS = (ParameterError, SettingsError, ParameterTypeError, SignatureMismatchError)
TASKS = "prefect.task_runs"
"""Prefect's logger of tasks. On a terminal its lines about each task are left out."""
STOPPED = (KeyboardInterrupt, TerminationSignal, stop_request.StopRequested)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job and print its report; return the exit status.

    With --json, one object is printed however the command ends: the report, or without one the
    error, with the keys `job`, `stopped_because`, `error` and `message`.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    as_json = JSON_OPTION in given
    name = None
    try:
        options = _parse(given)
        if options.list:
            return _list()
        name = options.job
        _log_to_standard_error()
        return _run_and_print(JOBS[name], options)
    except BAD_PARAMETERS as error:
        _print_error(name, error, as_json=as_json)
        return BAD_OPTIONS
    except STOPPED as error:
        _print_error(name, error, as_json=as_json)
        return _status(error)
    except Exception as error:  # noqa: BLE001 - every end is reported
        if not isinstance(error, MaintenanceError):
            traceback.print_exc()
        _print_error(name, error, as_json=as_json)
        return FAILED


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    options_parser = parser()
    options = options_parser.parse_args(arguments)
    if options.job is None and not options.list:
        options_parser.error("name a JOB, or --list")
    return options


def _run_and_print(job: Job, options: argparse.Namespace) -> int:
    with stop_request.stoppable(), by_hand(patient=options.retry):
        try:
            report = _run(job, parameters_of(job, options))
        except UnfinishedRun as error:
            _print(error.report, as_json=options.json)
            return _status(error) if isinstance(error, RunStopped) else FAILED
        _print(report, as_json=options.json)
        return OK


def _run(job: Job, parameters: dict[str, Any]) -> Report:
    given = validated(job, parameters)
    problem = why_no_server()
    if problem is None:
        report: Report = job.flow(**given)
        return report
    if problem:
        print(f"python -m flows: without a Prefect server: {one_line(problem)}", file=sys.stderr)
    with without_server():
        outcome: Any = job.flow.fn(**given)
        if isinstance(outcome, State):
            outcome = outcome.data
        if isinstance(outcome, BaseException):
            raise outcome
        done: Report = outcome
        return done


def _print(report: Report, *, as_json: bool) -> None:
    if as_json:
        say(report.model_dump_json(indent=None))
        return
    say(as_text(report))


def _print_error(job: str | None, error: BaseException, *, as_json: bool) -> None:
    """Print one line to standard error, and with --json one object to standard output."""
    text = one_line(str(error))
    if isinstance(error, STOPPED):
        text = "stopped by a signal; the batches that were completed stay done"
    if isinstance(error, BAD_PARAMETERS):
        print(f"python -m flows: {text}", file=sys.stderr)
    else:
        print(f"{job} failed: {text}", file=sys.stderr)
    if as_json:
        report = attached_report(error)
        ended = StopReason.CANCELLED if isinstance(error, STOPPED) else StopReason.ERROR
        found = {"error": type(error).__name__, "message": text}
        said = report.model_dump(mode="json") if report else {"job": job, "stopped_because": ended}
        say(json.dumps(said | found))


def _status(error: BaseException) -> int:
    number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else stop_request.stopped_by()
    return ENDED_BY_SIGNAL + (number or signal.SIGTERM)


class BesideProgress(logging.Filter):
    """Gives each record a line of its own on a terminal, where one line shows the progress."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Clear the terminal's line; leave out what the progress says."""
        of_task = record.name.startswith(TASKS) and record.levelno < logging.WARNING
        if of_task or getattr(record, "action", None) == "slice":
            return False
        sys.stderr.write(CLEAR)
        return True


def _log_to_standard_error() -> None:
    """Log the progress of the run; only the report goes to standard output."""
    logger = logging.getLogger(LOGGER)
    logger.addHandler(logging.StreamHandler(sys.stderr))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if on_terminal():
        # Not to the loggers: what goes to the Prefect server stays whole.
        for handler in (*logger.handlers, *logging.getLogger().handlers):
            handler.addFilter(BesideProgress())


def _list() -> int:
    for job in JOBS.values():
        say(f"{job.name:30} {job.schedule:14} {job.description}")
    return OK


if __name__ == "__main__":
    run_command(main)
