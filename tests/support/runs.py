"""Running flows in tests: in this process and without a server, as `python -m flows` does."""

from contextlib import suppress
from typing import Any

from prefect import Flow, task
from prefect.client.schemas.objects import State

from flows.run.final_state import UnfinishedRun
from flows.run.offline import without_server
from maintenance.report import Report
from tasks.retrying import TASK_OPTIONS


def run(flow: Flow[..., Any], **parameters: Any) -> Report:
    """Run a flow and return its report, that of an unfinished one too."""
    with without_server():
        outcome = flow.fn(**flow.validate_parameters(parameters))
    data = outcome.data if isinstance(outcome, State) else outcome
    if isinstance(data, UnfinishedRun):
        return data.report
    assert isinstance(data, Report)
    return data


def attempts_of(error: Exception) -> int:
    """How often a task that always fails with this error is tried, with the options of all."""
    tried: list[int] = []

    @task(**{**TASK_OPTIONS, "retry_delay_seconds": 0, "retry_jitter_factor": None})
    def failing() -> None:
        tried.append(1)
        raise error

    with without_server(), suppress(type(error)):
        failing()
    return len(tried)
