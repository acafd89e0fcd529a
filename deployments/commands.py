"""`python -m maintenance run | pause | resume JOB`: a job on the Prefect server, by its name."""

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from pydantic_core import to_jsonable_python

from deployments.following import follow, page_of, start
from deployments.pausing import switch
from flows.jobs import JOBS
from flows.options import add_options, parameters_of
from flows.validation import validated
from maintenance.command_line import Parser, say
from maintenance.errors import ParameterError
from maintenance.outside_text import one_line

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Parser]  # noqa: SLF001 - its only name

OK, FAILED, BAD_OPTIONS, INTERRUPTED = 0, 1, 2, 130


def add_commands(commands: "Subparsers") -> None:
    """Add the commands to the parser of `python -m maintenance`."""
    run = commands.add_parser("run", help="start a job on the Prefect server, and follow it")
    jobs = run.add_subparsers(required=True, metavar="JOB", dest="job")
    for job in JOBS.values():
        one = jobs.add_parser(job.name, help=job.description, description=job.description)
        add_options(one, job)
        one.add_argument("--json", action="store_true", help="print one JSON object at the end")
        one.set_defaults(command=_run)
    for name, active in (("pause", False), ("resume", True)):
        other = commands.add_parser(name, help=f"{name} the schedules of a job")
        other.add_argument("job", metavar="JOB", choices=list(JOBS), help=", ".join(JOBS))
        other.set_defaults(command=_switch, active=active)


def _run(options: argparse.Namespace) -> int:
    job = JOBS[options.job]
    given = parameters_of(job, options)
    try:
        checked = validated(job, given)
    except ParameterError as error:
        _tell(str(error))
        return BAD_OPTIONS
    run = start(job.name, {name: to_jsonable_python(checked[name]) for name in given})
    _tell(page_of(run))
    try:
        ended = follow(job.name, run, _tell)
    except KeyboardInterrupt:
        _tell(f"the run goes on; to stop it: prefect flow-run cancel {run.id}")
        return INTERRUPTED
    if options.json:
        say(json.dumps(asdict(ended)))
    else:
        say(one_line(ended.message) or ended.state)
        say(f"report: {ended.report}" if ended.report else f"run: {ended.page}")
    return OK if ended.completed else FAILED


def _switch(options: argparse.Namespace) -> int:
    say(switch(options.job, active=options.active))
    return OK


def _tell(text: str) -> None:
    sys.stderr.write(f"python -m maintenance: {one_line(text)}\n")
    sys.stderr.flush()
