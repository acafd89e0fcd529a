"""Running flows in tests: in this process and without a server, as `python -m flows` does."""

from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import State

from flows.offline import without_server
from flows.running import ItemsFailed
from maintenance.report import Report


def run(flow: Flow[..., Any], **parameters: Any) -> Report:
    """Run a flow and return its report, that of a run with failed items too."""
    with without_server():
        outcome = flow.fn(**flow.validate_parameters(parameters))
    data = outcome.data if isinstance(outcome, State) else outcome
    if isinstance(data, ItemsFailed):
        return data.report
    assert isinstance(data, Report)
    return data
