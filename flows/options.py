"""A flow's parameters as command line options (SPEC 9): one option each, from its signature."""

import argparse
import inspect
from typing import Any

from pydantic.fields import FieldInfo

from flows.jobs import JOBS, Job


def parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m flows`."""
    top = argparse.ArgumentParser(
        prog="python -m flows",
        description="Run one maintenance job in this process, with or without a Prefect server.",
        epilog="Exit status: 0 all went well, 1 items or the run failed, 2 bad options.",
    )
    top.add_argument("--list", action="store_true", help="list the jobs with their schedules")
    jobs = top.add_subparsers(dest="job", metavar="JOB")
    for job in JOBS.values():
        sub = jobs.add_parser(
            job.name,
            help=job.description,
            description=inspect.getdoc(job.flow.fn),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for parameter in inspect.signature(job.flow.fn).parameters.values():
            _add_option(sub, parameter)
        sub.add_argument("--json", action="store_true", help="print the report as one JSON object")
    return top


def parameters_of(job: Job, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters that were given, not yet validated."""
    names = inspect.signature(job.flow.fn).parameters
    return {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}


def _add_option(sub: argparse.ArgumentParser, parameter: inspect.Parameter) -> None:
    option = "--" + parameter.name.replace("_", "-")
    # argparse formats help texts with %, so a literal one is doubled.
    text = _description(parameter).replace("%", "%%")
    if isinstance(parameter.default, bool):
        action = "store_false" if parameter.default else "store_true"
        sub.add_argument(
            option, dest=parameter.name, action=action, help=text, default=argparse.SUPPRESS
        )
    else:
        sub.add_argument(
            option,
            dest=parameter.name,
            metavar=parameter.name.upper(),
            help=text,
            default=argparse.SUPPRESS,
        )


def _description(parameter: inspect.Parameter) -> str:
    for part in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(part, FieldInfo) and part.description:
            return part.description
    return ""
