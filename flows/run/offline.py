"""Running a flow without a Prefect server.

Without a server, Prefect starts a temporary one, which takes longer than most runs. A maintenance
job does not need it: tasks are retried all the same, and the report is printed. So the tasks get a
client that refuses every request, and nothing is sent.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.context import SyncClientContext
from prefect.settings import (
    PREFECT_API_KEY,
    PREFECT_API_URL,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    temporary_settings,
)

NO_SERVER = "http://no-server.invalid/api"


class NoServer(httpx.BaseTransport):
    """Refuses every request immediately, without using the network."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Refuse the request."""
        message = "there is no Prefect server"
        raise httpx.ConnectError(message, request=request)


@contextmanager
def without_server() -> Iterator[None]:
    """Run tasks in the block without a server: no events, no logs to it, no temporary server.

    The API key is set because Prefect sends events when there is an address or no key.
    """
    offline = {
        PREFECT_API_KEY: "unused",
        PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
        PREFECT_LOGGING_TO_API_ENABLED: False,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False,
    }
    with temporary_settings(offline, restore_defaults={PREFECT_API_URL}):
        with temporary_settings({PREFECT_API_URL: NO_SERVER}):
            client = SyncClientContext(httpx_settings={"transport": NoServer()})
        with client:
            yield
