"""The examples of notifications, on a real server: an event is sent where the block says."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import ClassVar
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.server.utilities.user_templates import render_user_template_sync
from prefect.settings import temporary_settings

from demo.processes import ChildFailed, wait_until
from demo.servers import PrefectServer
from deployments.setup.automations import apply_automations
from deployments.setup.automations.notifications import BODY, EVENTS, EXAMPLES
from deployments.setup.changes import Changes
from deployments.setup.conflicts import (
    APPROVAL_NEEDED,
    Conflict,
    DeploymentConflict,
    report_conflicts,
)
from deployments.setup.last_applied import LastApplied
from tests.support.http_server import serving
from tests.support.prefect_server import ask, automations, settings_of

pytestmark = pytest.mark.slow

WEBHOOK = "Maintenance: webhook (example)"
WAIT_SECONDS = 60.0
CALL_SECONDS = 5.0
RETRY_ALERT = "validibot-maintenance.retry-alert"
DETAILS: dict[str, object] = {"items": 3, "text": '"'}


class Receiver(BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    received: ClassVar[list[dict[str, object]]] = []

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.received.append(json.loads(self.rfile.read(length)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def receiver() -> Iterator[str]:
    Receiver.received.clear()
    with serving(Receiver) as address:
        yield f"{address}/"


def calls(event: str) -> list[object]:
    """Return the details that were sent of an event."""
    return [call["details"] for call in Receiver.received if call["event"] == event]


def emit(server: PrefectServer, event: str, payload: dict[str, object]) -> None:
    resource = {"prefect.resource.id": "validibot-maintenance.job.clear-sessions"}
    body = {
        "occurred": "2026-11-15T12:00:00Z",
        "event": event,
        "resource": resource,
        "payload": payload,
        "id": str(uuid4()),
    }
    ask(server, "POST", "/events", [body])


def test_an_example_is_off_until_it_has_an_address_and_then_sends_our_events(
    prefect_server: PrefectServer,
) -> None:
    with temporary_settings(settings_of(prefect_server)), get_client(sync_client=True) as client:
        apply_automations(client, LastApplied(client), Changes())
        before = automations(prefect_server)
        assert {one.name for one in EXAMPLES} <= before.keys()
        for example in EXAMPLES:
            (automation,) = before[example.name]
            assert automation["enabled"] is False
            assert set(automation["trigger"]["expect"]) == EVENTS
        with receiver() as url:
            block = client.read_block_document_by_name("validibot-maintenance-webhook", "webhook")
            data = {"url": url, "allow_private_urls": True}
            ask(prefect_server, "PATCH", f"/block_documents/{block.id}", {"data": data})
            path = f"/automations/{before[WEBHOOK][0]['id']}"
            ask(prefect_server, "PATCH", path, {"enabled": True})

            def called() -> bool:
                # The server may take up an automation only after an event that comes at once.
                emit(prefect_server, RETRY_ALERT, DETAILS)
                with suppress(ChildFailed):
                    wait_until(lambda: bool(calls(RETRY_ALERT)), CALL_SECONDS, "a call", [])
                return bool(calls(RETRY_ALERT))

            wait_until(called, WAIT_SECONDS, "the webhook's call", [])
            conflict = Conflict("schedule s", "0 1 * * * UTC", "0 2 * * * UTC", "edited")
            waiting = DeploymentConflict("clear-sessions/default", conflict, "x")
            assert report_conflicts(client, [waiting]) is None
            wait_until(lambda: bool(calls(APPROVAL_NEEDED)), WAIT_SECONDS, "the next call", [])
            ask(prefect_server, "PATCH", path, {"enabled": False})
        assert all(one == DETAILS for one in calls(RETRY_ALERT))
        offered = {"kept": conflict.kept, "offered": conflict.offered}
        assert calls(APPROVAL_NEEDED) == [offered | {"what": conflict.what, "command": "x"}]
        assert {call["event"] for call in Receiver.received} == {RETRY_ALERT, APPROVAL_NEEDED}

        # What an operator made of an example, or that it was deleted, stays.
        ask(prefect_server, "DELETE", f"/automations/{before[EXAMPLES[0].name][0]['id']}")
        changes = Changes()
        apply_automations(client, LastApplied(client), changes)
        assert changes.made == []
        assert EXAMPLES[0].name not in automations(prefect_server)


def test_the_text_of_a_notification_holds_no_html_of_a_payload() -> None:
    payload = {"failures": [{"cause": "<img src=x onerror=alert(1)> & <http://x|y>"}]}
    event = {"event": RETRY_ALERT, "occurred": "now", "resource": {"a": "<b>"}, "payload": payload}
    text = render_user_template_sync(BODY, {"event": event})
    assert RETRY_ALERT in text
    assert "<" not in text
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; &lt;http://x|y&gt;" in text
