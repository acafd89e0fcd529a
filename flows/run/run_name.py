"""The names of flow runs, by which lists of runs say something (SPEC 2.7)."""

import inspect
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

DRY_RUN, BY_HAND, CATCH_UP = "dry run", "by hand", "catch-up"
LATE = timedelta(minutes=5)
"""A scheduled run that begins so late makes up for a time without worker or server. A run that was
killed is started again sooner."""


def run_name() -> str:
    """Return the name of this process's flow run; Prefect calls it when the run begins."""
    context = FlowRunContext.get()
    assert context is not None  # noqa: S101 - Prefect calls it within one
    assert context.flow is not None  # noqa: S101 - the same
    assert context.flow_run is not None  # noqa: S101 - the same
    defaults = {
        name: one.default for name, one in inspect.signature(context.flow.fn).parameters.items()
    }
    parameters = defaults | (context.parameters or {})
    return name_of(context.flow.name, parameters, context.flow_run, datetime.now(UTC))


def name_of(job: str, parameters: Mapping[str, Any], run: FlowRun, now: datetime) -> str:
    """Return the name of a run: job, time in UTC, and what is special about it.

    Args:
        job: the job's name.
        parameters: those of the run, with defaults.
        run: the run.
        now: when it begins.
    """
    due = run.expected_start_time or now
    marks = {
        DRY_RUN: bool(parameters.get("dry_run")),
        BY_HAND: not run.auto_scheduled,
        CATCH_UP: run.auto_scheduled and now - due > LATE,
    }
    named = f"{job} {due.astimezone(UTC):%Y-%m-%d %H:%M}"
    return ", ".join([named, *(mark for mark, applies in marks.items() if applies)])
