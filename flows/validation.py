"""Validation of the parameters that were given on the command line (SPEC 9)."""

import logging
from typing import Any

from prefect.exceptions import ParameterTypeError
from pydantic import ValidationError

from flows.job import Job
from maintenance.errors import ParameterError
from maintenance.plain_words import requirement


def validated(job: Job, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters in the types of the job's flow.

    Raises:
        ParameterError: some are not allowed. The text names each option as it was given, and what
            it must be.
    """
    log = logging.getLogger("prefect.flows")  # it logs what is said by the error below
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return job.flow.validate_parameters(parameters)
    except ParameterTypeError as error:
        if not isinstance(error.__context__, ValidationError):
            raise
        problems = error.__context__.errors(include_url=False)
    finally:
        log.setLevel(level)
    found = []
    for problem in problems:
        name = str(problem["loc"][0])
        option = f"--{name.replace('_', '-')} {parameters.get(name, '')}".rstrip()
        found.append(f"{option}: {requirement(problem)}")
    raise ParameterError("; ".join(found))
