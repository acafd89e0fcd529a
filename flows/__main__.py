"""`python -m flows JOB [options]`: the same flow, run in this process (SPEC 9)."""

import logging
import sys
from collections.abc import Sequence
from typing import Any

from prefect.client.schemas.objects import State
from prefect.exceptions import ParameterTypeError, SignatureMismatchError

from flows.jobs import JOBS, Job
from flows.offline import server_answers, without_server
from flows.options import parameters_of, parser
from flows.running import LOGGER, ItemsFailed
from maintenance.errors import MaintenanceError, ParameterError, SettingsError
from maintenance.report import Report
from maintenance.report_markdown import to_markdown

OK, FAILED, BAD_OPTIONS = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job and print its report; return the exit status."""
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
        return _refuse(_allowed(error))
    except ItemsFailed as error:
        report = error.report
    except MaintenanceError as error:
        print(f"{job.name} failed: {error}", file=sys.stderr)
        return FAILED
    print(report.model_dump_json(indent=None) if options.json else to_markdown(report))
    return FAILED if report.items_failed else OK


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


def _log_to_standard_error() -> None:
    """Show the progress of a run; standard output is the report's alone."""
    logger = logging.getLogger(LOGGER)
    logger.addHandler(logging.StreamHandler(sys.stderr))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # What it says about a bad parameter is said again by the error.
    logging.getLogger("prefect.flows").setLevel(logging.CRITICAL)


def _list() -> int:
    for job in JOBS.values():
        print(f"{job.name:30} {job.schedule:14} {job.description}")
    return OK


def _refuse(message: str) -> int:
    print(f"python -m flows: {message}", file=sys.stderr)
    return BAD_OPTIONS


def _allowed(error: Exception) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
