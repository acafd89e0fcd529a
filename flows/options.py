"""Command line options, one for each parameter of a flow (SPEC 9)."""

import argparse
import inspect
import sys
from typing import Any, NoReturn

from flows.job import Job
from flows.jobs import JOBS
from maintenance.command_line import Parser
from maintenance.errors import ParameterError


class OptionsParser(Parser):
    """A parser that raises its errors instead of exiting."""

    def error(self, message: str) -> NoReturn:
        """Print the usage, and raise the error.

        Raises:
            ParameterError: always.
        """
        self.print_usage(sys.stderr)
        raise ParameterError(message)


def parser() -> OptionsParser:
    """Return the parser of `python -m flows`."""
    top = OptionsParser(
        prog="python -m flows",
        description="Run one maintenance job in this process, with or without a Prefect server.",
        epilog="Exit status: 0 success, 1 items or the run failed, 2 bad options, 130 or 143"
        " stopped by Ctrl-C or SIGTERM, after the current batch.",
    )
    top.add_argument("--list", action="store_true", help="list the jobs with their schedules")
    jobs = top.add_subparsers(dest="job", metavar="JOB")
    for job in JOBS.values():
        sub = jobs.add_parser(
            job.name,
            help=job.description,
            description=_manual(job),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_options(sub, job)
        sub.add_argument(
            "--retry",
            action="store_true",
            help="wait some minutes for a database or storage that does not answer, instead of"
            " failing at once",
        )
        sub.add_argument("--json", action="store_true", help="print the report as one JSON object")
    return top


def add_options(sub: argparse.ArgumentParser, job: Job) -> None:
    """Add an option for each parameter of a job's flow."""
    texts = job.flow.parameters.properties
    for parameter in inspect.signature(job.flow.fn).parameters.values():
        _add_option(sub, parameter, texts[parameter.name]["description"])


def parameters_of(job: Job, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters that were given on the command line, not yet validated."""
    names = inspect.signature(job.flow.fn).parameters
    return {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}


def _manual(job: Job) -> str:
    """Return the flow's docstring without the list of parameters."""
    return (inspect.getdoc(job.flow.fn) or "").partition("\nArgs:")[0]


def _add_option(sub: argparse.ArgumentParser, parameter: inspect.Parameter, text: str) -> None:
    option = "--" + parameter.name.replace("_", "-")
    shared: dict[str, Any] = {
        "dest": parameter.name,
        "default": argparse.SUPPRESS,
        "help": " ".join(text.split()).replace("%", "%%"),  # argparse formats with %
    }
    if parameter.default is True:
        sub.add_argument(option, action=argparse.BooleanOptionalAction, **shared)
    elif isinstance(parameter.default, bool):
        sub.add_argument(option, action="store_true", **shared)
    else:
        sub.add_argument(option, metavar=parameter.name.upper(), **shared)
