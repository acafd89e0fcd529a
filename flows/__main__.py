"""`python -m flows JOB [options]`: run a job's flow in this process (SPEC 9).

Ctrl-C and SIGTERM end the run after the current batch. The report of what was done is printed, and
the exit status is the one that a shell gives to a command that was ended by the signal: 130 or 143.
"""

import logging
import signal
import sys
from collections.abc import Sequence
from typing import Any

from prefect.client.schemas.objects import State
from prefect.exceptions import ParameterTypeError, SignatureMismatchError

from flows.job import Job
from flows.jobs import JOBS
from flows.options import parameters_of, parser
from flows.run.final_state import RunStopped, UnfinishedRun
from flows.run.offline import server_answers, without_server
from flows.run.prefect_context import LOGGER
from maintenance import stop_request
from maintenance.errors import MaintenanceError, ParameterError, SettingsError
from maintenance.outside_text import escape_what_cannot_be_printed, one_line
from maintenance.report import Report
from maintenance.report_markdown import to_markdown

OK, FAILED, BAD_OPTIONS = 0, 1, 2
ENDED_BY_SIGNAL = 128
"""The exit status after a signal is this plus the number of the signal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job and print its report; return the exit status."""
    escape_what_cannot_be_printed()
    options_parser = parser()
    options = options_parser.parse_args(arguments)
    if options.list:
        return _list()
    if options.job is None:
        options_parser.error("name a JOB, or --list")
    _log_to_standard_error()
    job = JOBS[options.job]
    try:
        report = _run(job, parameters_of(job, options))
    except (ParameterError, SettingsError, ParameterTypeError, SignatureMismatchError) as error:
        return _refuse(one_line(str(error)))
    except UnfinishedRun as error:
        _print(error.report, as_json=options.json)
        return _status(stop_request.stopped_by()) if isinstance(error, RunStopped) else FAILED
    except MaintenanceError as error:
        print(f"{job.name} failed: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"{job.name} was interrupted; its completed batches stay done", file=sys.stderr)
        return _status(signal.SIGINT)
    _print(report, as_json=options.json)
    return OK


def _run(job: Job, parameters: dict[str, Any]) -> Report:
    validated = job.flow.validate_parameters(parameters)
    if server_answers():
        report: Report = job.flow(**validated)
        return report
    with without_server():
        outcome: Any = job.flow.fn(**validated)
        if isinstance(outcome, State):
            outcome = outcome.data
        if isinstance(outcome, BaseException):
            raise outcome
        done: Report = outcome
        return done


def _print(report: Report, *, as_json: bool) -> None:
    print(report.model_dump_json(indent=None) if as_json else to_markdown(report))


def _status(number: signal.Signals | None) -> int:
    return ENDED_BY_SIGNAL + (number or signal.SIGTERM)


def _log_to_standard_error() -> None:
    """Log the progress of the run; only the report goes to standard output."""
    logger = logging.getLogger(LOGGER)
    logger.addHandler(logging.StreamHandler(sys.stderr))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # Prefect logs a bad parameter before it raises the error, which is printed here.
    logging.getLogger("prefect.flows").setLevel(logging.CRITICAL)


def _list() -> int:
    for job in JOBS.values():
        print(f"{job.name:30} {job.schedule:14} {job.description}")
    return OK


def _refuse(message: str) -> int:
    print(f"python -m flows: {message}", file=sys.stderr)
    return BAD_OPTIONS


if __name__ == "__main__":
    sys.exit(main())
