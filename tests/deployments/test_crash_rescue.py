"""Everything is killed, and is at work again in under 100 seconds, with no hand laid on.

One story, because each of its waits is for a clock of the Prefect server's: the server is killed
and started again in the middle of a run, and the run is taken for dead by mistake; then the worker
and all runs are killed at once, one in the middle of its work and one that had not begun, and while
no worker was there 72 runs fell due.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.api import FINAL_STATES
from demo.environment import clean_environment
from demo.processes import Child, ChildFailed, wait_until
from demo.servers import PrefectServer, start_worker
from deployments.names import DEPLOYMENT
from deployments.setup.automations.rescue import NO_SIGN_OF_LIFE
from maintenance import schema
from maintenance.settings import Settings
from tests.support.prefect_server import ask, deployed_prefect, deployments
from tests.support.validibot import DAY, NOW, Validibot

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.timing,
]

CLEAR = f"clear-sessions/{DEPLOYMENT}"
KEYS = f"cleanup-idempotency-keys/{DEPLOYMENT}"
RECEIPTS = "cleanup-callback-receipts"
SESSIONS = 300
"""So many that the run is still at work when the worker is killed, on a busy machine too."""
OLD_RECEIPTS = 250
"""So many that the run that catches up outlasts the others' way out, on a busy machine too."""
PAUSE_SECONDS = 0.2
SOME = 5
RESCUE_SECONDS = 100.0
BACKLOG = 72
BACKLOG_SECONDS = 60.0
"""15 on a quiet machine."""
WAIT_SECONDS = 120.0
STOP_SECONDS = 10.0
HEARD_SECONDS = 40.0
ALARMS = 3


@pytest.fixture
def prefect() -> Iterator[PrefectServer]:
    with deployed_prefect() as running:
        yield running


class Story:
    """The server, the worker and the application of one test."""

    def __init__(self, prefect: PrefectServer, validibot: Validibot, logs: Path) -> None:
        self.prefect = prefect
        self.validibot = validibot
        self.logs = logs
        variables = clean_environment(os.environ, logs) | prefect.client_settings
        variables |= {name: os.environ[name] for name in ("DATABASE_URL", "STORAGE_ROOT")}
        self.variables = variables | {"MAINTENANCE_DELETE_PAUSE_SECONDS": str(PAUSE_SECONDS)}
        self.worker = self.start_worker()

    def start_worker(self) -> Child:
        self.worker = start_worker(self.logs, self.variables)
        return self.worker

    def run(self, identifier: str) -> dict[str, Any]:
        found: dict[str, Any] = ask(self.prefect, "GET", f"/flow_runs/{identifier}")
        return found

    def states(self, identifier: str) -> list[str]:
        found = ask(self.prefect, "GET", f"/flow_run_states/?flow_run_id={identifier}")
        return [one["name"] for one in sorted(found, key=lambda one: one["timestamp"])]

    def wait(self, identifier: str, state: str) -> None:
        wait_until(
            lambda: self.run(identifier)["state_name"] == state,
            WAIT_SECONDS,
            f"a run becoming {state}",
            [self.worker],
        )

    def take_for_dead(self, identifier: str) -> int:
        """Mark a run as crashed until an automation hears of it; return how often it took.

        A server that has just started answers requests before its automations receive events.
        """
        crashed = {"type": "CRASHED", "message": f"{NO_SIGN_OF_LIFE} for 65 s"}
        for times in count(1):
            self.set_state(identifier, crashed)
            try:
                wait_until(self.second_process, HEARD_SECONDS, "a second process", [self.worker])
            except ChildFailed:
                if times == ALARMS:
                    raise
                self.set_state(identifier, {"type": "RUNNING"})
            else:
                return times
        raise AssertionError

    def set_state(self, identifier: str, state: dict[str, str]) -> None:
        body = {"state": state, "force": True}
        ask(self.prefect, "POST", f"/flow_runs/{identifier}/set_state", body)

    def second_process(self) -> bool:
        return "an earlier process of this run is at work" in self.worker.said()

    def sessions(self) -> int:
        return len(self.validibot.rows(schema.sessions))

    def wait_for_work(self) -> None:
        before = self.sessions()
        assert before > SOME
        wait_until(
            lambda: self.sessions() <= before - SOME, WAIT_SECONDS, "some work", [self.worker]
        )


def fall_due(prefect: PrefectServer, job: str) -> None:
    """Make the runs of an outage of six hours, one every five minutes."""
    deployment = deployments(prefect)[job]["id"]
    now = datetime.now(UTC)
    for number in range(BACKLOG):
        due = (now - timedelta(minutes=5 * number + 1)).isoformat()
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due}}
        body = {"state": state, "parameters": {"batch_size": 1}}
        ask(prefect, "POST", f"/deployments/{deployment}/create_flow_run", body)


def waiting(prefect: PrefectServer, job: str) -> int:
    """Return how many runs of a job that were due have not ended."""
    query = {
        "flows": {"name": {"any_": [job]}},
        "flow_runs": {
            "expected_start_time": {"before_": datetime.now(UTC).isoformat()},
            "state": {"type": {"not_any_": list(FINAL_STATES)}},
        },
    }
    try:
        found: int = ask(prefect, "POST", "/flow_runs/count", query)
    except httpx.TransportError:
        return BACKLOG  # too busy to say
    return found


def runs_of(prefect: PrefectServer, job: str) -> Counter[str]:
    query = {
        "flows": {"name": {"any_": [job]}},
        "flow_runs": {"expected_start_time": {"before_": datetime.now(UTC).isoformat()}},
    }
    return Counter(one["state_name"] for one in ask(prefect, "POST", "/flow_runs/filter", query))


def deploy_what_cannot_be_loaded(prefect: PrefectServer) -> str:
    found = deployments(prefect)["clear-sessions"]
    kept = ("flow_id", "work_pool_name", "job_variables", "pull_steps", "enforce_parameter_schema")
    made = {name: found[name] for name in kept}
    made |= {"name": "unloadable", "entrypoint": "flows.absent.absent"}
    ask(prefect, "POST", "/deployments/", made)
    return prefect.api.start_run("clear-sessions/unloadable", {})


def test_whatever_is_killed_is_at_work_again_in_under_100_seconds(
    prefect: PrefectServer, environment: Settings, validibot: Validibot, tmp_path: Path
) -> None:
    for _ in range(SESSIONS):
        validibot.session(NOW - DAY)
    live = validibot.run(None)
    for _ in range(OLD_RECEIPTS):
        validibot.receipt(NOW - 400 * DAY, live)
    story = Story(prefect, validibot, tmp_path)
    try:
        clearing = prefect.api.start_run(CLEAR, {"batch_size": 1})
        story.wait_for_work()

        # The server dies and comes back: the run goes on, and is not started a second time.
        prefect.restart()
        story.wait_for_work()
        assert story.states(clearing)[-1] == "Running"
        assert story.run(clearing)["run_count"] == 1

        # A false alarm: the worker starts a second process of the run, which leaves at once.
        alarms = story.take_for_dead(clearing)
        story.wait_for_work()
        assert story.states(clearing)[-1] == "Running"
        assert story.run(clearing)["run_count"] == alarms + 1

        # The worker dies with its runs: one at work, and one that has not begun.
        unloadable = deploy_what_cannot_be_loaded(prefect)
        story.wait(unloadable, "Crashed")
        keys = prefect.api.start_run(KEYS, {})
        wait_until(
            lambda: story.run(keys)["state_type"] == "PENDING",
            WAIT_SECONDS,
            "a run being started",
            [story.worker],
        )
        story.worker.kill()
        killed = time.monotonic()
        assert story.run(keys)["run_count"] == 0
        left = story.sessions()
        assert left > SOME
        fall_due(prefect, RECEIPTS)

        # Something (systemd, Docker) starts the worker again. One run catches up.
        story.start_worker()
        back = time.monotonic()
        wait_until(
            lambda: waiting(prefect, RECEIPTS) <= 1,
            BACKLOG_SECONDS,
            "the backlog",
            [story.worker],
        )
        took = time.monotonic() - back
        assert took < BACKLOG_SECONDS
        wait_until(
            lambda: runs_of(prefect, RECEIPTS) == {"Running": 1, "Cancelled": BACKLOG - 1},
            WAIT_SECONDS,
            "one run that catches up",
            [story.worker],
        )
        assert story.sessions() == left  # the killed run is not at work any more

        # Both killed runs are found, and started again.
        wait_until(
            lambda: (
                story.run(clearing)["run_count"] == alarms + 2 and story.run(keys)["run_count"] == 1
            ),
            WAIT_SECONDS,
            "the rescue",
            [story.worker],
        )
        rescued = time.monotonic() - killed
        assert rescued < RESCUE_SECONDS
        story.wait(keys, "Completed")
        story.wait(clearing, "Completed")
        assert story.sessions() == 0
        assert story.run(clearing)["state"]["message"] == f"{left} of {left} done"
        assert [story.states(one).count("Crashed") for one in (clearing, keys)] == [alarms + 1, 1]

        wait_until(
            lambda: waiting(prefect, RECEIPTS) == 0, WAIT_SECONDS, "catching up", [story.worker]
        )
        assert runs_of(prefect, RECEIPTS) == {"Completed": 1, "Cancelled": BACKLOG - 1}
        assert validibot.rows(schema.callback_receipts) == {}

        # What crashes by a fault of its own is left alone.
        assert story.states(unloadable)[-1] == "Crashed"
        assert story.run(unloadable)["run_count"] == 0
        print(f"backlog gone after {took:.1f} s, rescued after {rescued:.1f} s")  # noqa: T201
    finally:
        story.worker.stop(STOP_SECONDS)
