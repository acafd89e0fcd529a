"""A client of the Prefect server with short time-outs, for commands that must not hang."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events import Event
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    temporary_settings,
)

from flows.run.server_access import explain_access
from maintenance.errors import MaintenanceError

REQUEST_SECONDS = 5.0
RETRIES = 3


class ServerUnavailable(MaintenanceError):
    """The Prefect server cannot be used; the text says why, and what to do."""

    def __init__(self, cause: str, action: str) -> None:
        """Keep cause and action apart for callers that show them in separate columns."""
        super().__init__(f"{cause}; {action}")
        self.cause = cause
        self.action = action


@contextmanager
def server(retries: int = RETRIES) -> Iterator[SyncPrefectClient]:
    """Yield a client of the server that PREFECT_API_URL names; a request may take five seconds.

    A request that is refused because the server is busy (SQLite is, during another write) is
    repeated after 2, 4 and 8 seconds. A refused connection is not repeated.

    Raises:
        ServerUnavailable: there is no server, or it answers with an error.
    """
    if not PREFECT_API_URL.value():
        raise ServerUnavailable(
            "PREFECT_API_URL is not set, so nothing is scheduled",
            "set it to the server's address, like http://127.0.0.1:4200/api",
        )
    short = {
        PREFECT_API_REQUEST_TIMEOUT: REQUEST_SECONDS,
        PREFECT_CLIENT_MAX_RETRIES: retries,
        PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
    }
    try:
        with temporary_settings(short), get_client(sync_client=True) as client:
            yield client
    except (httpx.HTTPError, httpx.InvalidURL, OSError, json.JSONDecodeError) as error:
        raise ServerUnavailable(*explain_access(error)) from None


def send_events(client: SyncPrefectClient, events: Sequence[Event]) -> None:
    """Send events to the server's automations in one request."""
    if events:
        body = [event.model_dump(mode="json") for event in events]
        client.request("POST", "/events", json=body)
