"""A short run whose heartbeat arrives after its end is not taken for dead (SPEC 2.8)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.events.schemas.automations import EventTrigger
from prefect.settings import temporary_settings

from demo.processes import wait_until
from demo.servers import PrefectServer
from deployments.names import WORK_POOL
from deployments.setup.automations.rescue import rescue_automations
from flows.run.events import ENDING
from tests.support.prefect_server import ask, settings_of

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(200)]

SILENCE = timedelta(seconds=10)
"""Prefect's shortest; 65 seconds in the automation as it is deployed."""
WAIT_SECONDS = 90.0
SHORT_RUN = (
    *("prefect.flow-run.Pending", "prefect.flow-run.Running", "prefect.flow-run.Completed"),
    "prefect.flow-run.heartbeat",
)
"""The events of a run of a second, in the order in which they arrive."""


@pytest.fixture
def automation(prefect_server: PrefectServer) -> Iterator[str]:
    """The automation that finds silent runs, with a short silence; yields its identifier."""
    lost, _ = rescue_automations(WORK_POOL)
    assert isinstance(lost.trigger, EventTrigger)
    lost.trigger.within = SILENCE
    with (
        temporary_settings(settings_of(prefect_server)),
        get_client(sync_client=True) as client,
    ):
        identifier = client.create_automation(lost)
        yield str(identifier)
        client.delete_automation(identifier)


def send(server: PrefectServer, run: str, names: tuple[str, ...]) -> None:
    pool = {
        "prefect.resource.id": "prefect.work-pool.x",
        "prefect.resource.role": "work-pool",
        "prefect.resource.name": WORK_POOL,
    }
    for name in names:
        event = {
            "id": str(uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": name,
            "resource": {"prefect.resource.id": run},
            "related": [pool],
            "payload": {},
        }
        ask(server, "POST", "/events", [event])


def alarms(server: PrefectServer, automation: str) -> list[str]:
    """Return the runs for which the automation was triggered."""
    query = {
        "filter": {
            "event": {"name": ["prefect.automation.triggered"]},
            "resource": {"id": [f"prefect.automation.{automation}"]},
        }
    }
    found: list[dict[str, Any]] = ask(server, "POST", "/events/filter", query)["events"]
    return [one["payload"]["triggering_labels"]["prefect.resource.id"] for one in found]


def test_2_8_a_heartbeat_that_arrives_after_the_end_causes_no_alarm(
    prefect_server: PrefectServer, automation: str
) -> None:
    ended, silent = (f"prefect.flow-run.{uuid4()}" for _ in range(2))
    send(prefect_server, ended, (*SHORT_RUN, ENDING))
    send(prefect_server, silent, SHORT_RUN)  # later: its alarm comes after that of the other
    wait_until(lambda: silent in alarms(prefect_server, automation), WAIT_SECONDS, "an alarm", [])
    assert alarms(prefect_server, automation) == [silent]
