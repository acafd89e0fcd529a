"""A page for each job, made from its flow's docstring, parameters and schedule."""

import inspect
from collections.abc import Iterator
from typing import Any

from flows.job import Job
from flows.jobs import JOBS

MANUAL_ONLY = "off at first"


def job_pages() -> dict[str, str]:
    """Return the text of each job's page by its path below docs/."""
    return {f"jobs/{name}.md": "\n".join(_page(job)) for name, job in JOBS.items()}


def job_table() -> str:
    """Return the table of all jobs, with links to their pages."""
    rows = [
        f"| [{job.name}](jobs/{job.name}.md) | `{job.schedule}`{_off(job)} | {_minutes(job)} |"
        f" {job.description} |"
        for job in JOBS.values()
    ]
    return "\n".join(("| job | schedule | time budget | does |", "|---|---|---|---|", *rows))


def _page(job: Job) -> Iterator[str]:
    manual = (inspect.getdoc(job.flow.fn) or "").partition("\nArgs:")[0].strip()
    yield f"# {job.name}\n"
    yield f"{manual}\n"
    yield "| | |\n|---|---|"
    yield f"| deployment | `{job.name}/default` |"
    yield f"| default schedule | `{job.schedule}` (cron){_off(job)} |"
    yield f"| time budget of a run | {_minutes(job)} |"
    yield f"| source | `{job.flow.fn.__module__.replace('.', '/')}.py` |\n"
    yield "## Commands\n"
    yield "```sh"
    yield f"python -m flows {job.name} --dry-run          # in this process; changes nothing"
    yield f"python -m maintenance run {job.name}          # now, through the worker"
    yield f"python -m maintenance pause {job.name}        # no runs by schedule until it is resumed"
    yield f"python -m maintenance resume {job.name}"
    yield f"prefect deployment schedule ls {job.name}/default"
    yield "```\n"
    yield "## Parameters\n"
    yield (
        "In the form of the UI, and of `python -m flows` and `python -m maintenance run` as"
        " options.\n"
    )
    yield "| parameter | option | default | allowed | meaning |"
    yield "|---|---|---|---|---|"
    schemas = job.flow.parameters.properties
    for parameter in inspect.signature(job.flow.fn).parameters.values():
        yield _row(parameter, schemas[parameter.name])


def _row(parameter: inspect.Parameter, schema: dict[str, Any]) -> str:
    option = "--" + parameter.name.replace("_", "-")
    if parameter.default is True:
        option = f"--no-{option[2:]}"
    default = "" if parameter.default is None else f"`{str(parameter.default).lower()}`"
    meaning = " ".join(schema["description"].split())
    cells = (f"`{parameter.name}`", f"`{option}`", default, _allowed(schema), meaning)
    return f"| {' | '.join(cells)} |"


def _allowed(schema: dict[str, Any]) -> str:
    """Return the type and bounds that the form checks."""
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    return " or ".join(_one(option) for option in options)


def _one(option: dict[str, Any]) -> str:
    kind = option.get("format") or {"boolean": "true, false"}.get(option["type"], option["type"])
    low, above = option.get("minimum"), option.get("exclusiveMinimum")
    least = f"from {low:,}" if low is not None else f"above {above:,}" if above is not None else ""
    most = f"to {option['maximum']:,}" if "maximum" in option else ""
    return " ".join(filter(None, (kind, least, most)))


def _minutes(job: Job) -> str:
    return f"{job.time_budget.total_seconds() / 60:g} minutes"


def _off(job: Job) -> str:
    return f", {MANUAL_ONLY}" if job.off_at_first else ""
