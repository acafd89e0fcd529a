"""Running flows in tests: in this process and without a server, as `python -m flows` does."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from prefect import Flow, Task, task
from prefect.client.schemas.objects import State
from prefect.context import SettingsContext, SyncClientContext
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.run.final_state import UnfinishedRun
from flows.run.offline import NO_SERVER, NoServer, without_server
from maintenance.report import Report
from tasks.retrying import TASK_OPTIONS


@dataclass(frozen=True)
class Offline:
    """Prefect's settings without a server: for the client that is never used, and for a run."""

    made_from: SettingsContext | None
    client: SettingsContext
    run: SettingsContext


NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Without it, every client would read all certificates of this machine."""
_known: dict[tuple[object, ...], Offline] = {}


def settings_offline() -> Offline:
    """Return the settings that `without_server` sets, made once a process.

    To make them takes longer than most runs: Prefect builds all its settings anew, twice.
    """
    made_from = SettingsContext.get()
    variables = sorted(item for item in os.environ.items() if item[0].startswith("PREFECT_"))
    key = (id(made_from), *variables)
    if key not in _known:
        with without_server():
            run = SettingsContext.get()
            with temporary_settings({PREFECT_API_URL: NO_SERVER}):
                client = SettingsContext.get()
        assert run is not None
        assert client is not None
        _known[key] = Offline(made_from, client, run)
    return _known[key]


@contextmanager
def offline() -> Iterator[None]:
    """Do what `without_server` does, with these settings."""
    known = settings_offline()
    with SettingsContext(profile=known.client.profile, settings=known.client.settings):
        client = SyncClientContext(httpx_settings={"transport": NoServer(), "verify": NO_TLS})
    with SettingsContext(profile=known.run.profile, settings=known.run.settings), client:
        yield


def run(flow: Flow[..., Any], **parameters: Any) -> Report:
    """Run a flow and return its report, that of an unfinished one too.

    It is no dry run unless the parameters say so, whatever the flow's default is.
    """
    with offline():
        if "dry_run" in flow.parameters.properties:
            parameters = {"dry_run": False, **parameters}
        outcome = flow.fn(**flow.validate_parameters(parameters))
    data = outcome.data if isinstance(outcome, State) else outcome
    if isinstance(data, UnfinishedRun):
        return data.report
    assert isinstance(data, Report)
    return data


def attempts_of(error: Exception, like: Task[..., Any] | None = None) -> int:
    """How often a task that always fails with this error is tried, with the options of all.

    Args:
        error: the error.
        like: a task that is retried in the same cases; None for those of most tasks.
    """
    tried: list[int] = []
    options = {**TASK_OPTIONS, "retry_delay_seconds": 0, "retry_jitter_factor": None}
    if like is not None:
        options["retry_condition_fn"] = like.retry_condition_fn

    @task(**options)
    def failing() -> None:
        tried.append(1)
        raise error

    with offline(), suppress(type(error)):
        failing()
    return len(tried)
