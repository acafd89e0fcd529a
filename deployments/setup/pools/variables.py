"""The variables of job templates, and what the templates of all types have in common."""

from typing import Any

from deployments.worker_settings import PATIENCE

Template = dict[str, Any]

HEARTBEAT_SECONDS = 30
"""Prefect's minimum. The automation that finds zombie runs waits for two missed heartbeats."""

COMMAND = "python -m flows.engine"
"""Waits for the server, then starts Prefect's engine."""

STORAGE_ROOT = "/app/storage"

WRITABLE = {"HOME": "/tmp", "PREFECT_HOME": "/tmp/prefect"}  # noqa: S108 - of a container
"""Where a container may write that is read-only otherwise."""


def placeholder(name: str) -> str:
    """Return what is replaced by a variable, or by something of the worker."""
    return f"{{{{ {name} }}}}"


def of_runs() -> dict[str, str]:
    """Return the environment that every run has."""
    return {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS), **PATIENCE}


def text(title: str, default: str | None) -> Template:
    """Return a variable that holds a text."""
    return _variable(title, "string", default)


def number(title: str, default: int | None) -> Template:
    """Return a variable that holds a whole number."""
    return _variable(title, "integer", default)


def flag(title: str, *, default: bool) -> Template:
    """Return a variable that is true or false."""
    return _variable(title, "boolean", default)


def list_of_texts(title: str, default: list[str]) -> Template:
    """Return a variable that holds a list of texts."""
    return _variable(title, "array", default) | {"items": {"type": "string"}}


def texts(title: str, default: dict[str, str]) -> Template:
    """Return a variable that holds texts by their names."""
    return _variable(title, "object", default) | {"additionalProperties": {"type": "string"}}


def _variable(title: str, kind: str, default: object) -> Template:
    variable = {"title": title, "type": kind}
    return variable if default is None else variable | {"default": default}
