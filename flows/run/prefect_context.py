"""What Prefect knows of the current run: its identifier and its logger."""

import logging
from typing import Any
from uuid import UUID

from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

LOGGER = "maintenance"
"""Name of the logger that is used outside a Prefect flow run."""


def run_id() -> UUID | None:
    """Return the identifier of this flow run; None outside a Prefect flow run."""
    context = FlowRunContext.get()
    return context.flow_run.id if context and context.flow_run else None


def has_server() -> bool:
    """Return whether a Prefect server records this run."""
    return FlowRunContext.get() is not None


def run_logger() -> logging.Logger | logging.LoggerAdapter[Any]:
    """Return the flow run's logger, or a plain one outside a Prefect flow run."""
    return get_run_logger() if has_server() else logging.getLogger(LOGGER)
