"""Starting a run of a job on the Prefect server and following it to its end."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL

from deployments.client import ServerUnavailable, server
from deployments.names import DEPLOYMENT
from maintenance.errors import MaintenanceError

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
"""After so many seconds without a worker that takes the run, it is said what to look at."""
NOT_TAKEN = (
    "no worker has taken the run yet; `python -m maintenance check` says whether one is there and"
    " whether work pool and queue are on"
)


class NotDeployed(MaintenanceError):
    """There is no deployment of the job."""

    def __init__(self, job: str) -> None:
        """Say so, and which command makes it."""
        super().__init__(
            f"there is no deployment {job}/{DEPLOYMENT}; `python -m deployments` makes it"
        )


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    run: str
    name: str
    state: str
    message: str
    completed: bool
    page: str
    report: str | None
    """The address of the report in the UI; None when the run has published none."""


def start(job: str, parameters: Mapping[str, Any]) -> FlowRun:
    """Start a run of a job's deployment.

    Raises:
        NotDeployed: the job is not deployed.
        ServerUnavailable: the Prefect server cannot be used.
    """
    with server() as client:
        try:
            deployment = client.read_deployment_by_name(f"{job}/{DEPLOYMENT}")
        except ObjectNotFound:
            raise NotDeployed(job) from None
        return client.create_flow_run_from_deployment(deployment.id, parameters=dict(parameters))


def follow(job: str, run: FlowRun, tell: Callable[[str], None]) -> Ended:
    """Wait for the end of a run of a job, and tell each state as it comes.

    While the server does not answer, the wait goes on.
    """
    seen, waiting_since, told = "", time.monotonic(), False
    while True:
        found = _read(run)
        state = found.state if found else None
        if found is not None and state is not None:
            if state.name and state.name != seen:
                seen = state.name
                tell(f"{found.name}: {seen}")
            if state.is_final():
                return _ended(job, found)
            unclaimed = state.type is StateType.SCHEDULED
            if unclaimed and not told and time.monotonic() - waiting_since > PATIENCE_SECONDS:
                told = True
                tell(NOT_TAKEN)
        time.sleep(POLL_SECONDS)


def page_of(run: FlowRun) -> str:
    """Return the address of a run in the UI."""
    return f"{_ui()}/runs/flow-run/{run.id}"


def _read(run: FlowRun) -> FlowRun | None:
    try:
        with server() as client:
            return client.read_flow_run(run.id)
    except ServerUnavailable:
        return None


def _ended(job: str, run: FlowRun) -> Ended:
    assert run.state is not None  # noqa: S101 - it is final
    with server() as client:
        report = _report(client, job, run)
    return Ended(
        run=str(run.id),
        name=run.name,
        state=run.state.name or run.state.type.value,
        message=run.state.message or "",
        completed=run.state.type is StateType.COMPLETED,
        page=page_of(run),
        report=report,
    )


def _report(client: SyncPrefectClient, job: str, run: FlowRun) -> str | None:
    found = client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]), key=ArtifactFilterKey(any_=[job])
        ),
        limit=1,
    )
    return f"{_ui()}/artifacts/artifact/{found[0].id}" if found else None


def _ui() -> str:
    """Return the address of the UI, without a name and password."""
    stated = PREFECT_UI_URL.value()
    parts = urlsplit(stated or (PREFECT_API_URL.value() or "").rstrip("/").removesuffix("/api"))
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
