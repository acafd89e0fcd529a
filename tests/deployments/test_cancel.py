"""Runs through a worker that are stopped in the middle of their work, or started twice."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.environment import clean_environment
from demo.processes import Child, start_child, wait_until
from demo.servers import PrefectServer, prefect_command
from deployments.names import DEPLOYMENT, WORK_POOL
from maintenance import schema
from maintenance.settings import Settings
from tests.support.prefect_server import ask
from tests.support.validibot import DAY, NOW, Validibot

pytestmark = [pytest.mark.slow]

JOB = "clear-sessions"
SESSIONS = 400
SOME = 3
PAUSE_SECONDS = 0.2
"""With one row a batch, a run of more than a minute, which may be stopped after every row."""
STOP_SECONDS = 10.0
WAIT_SECONDS = 60.0


class Running:
    """A run that deletes session after session, through a worker of its own."""

    def __init__(self, prefect: PrefectServer, validibot: Validibot, logs: Path) -> None:
        self.prefect = prefect
        self.validibot = validibot
        self.variables = clean_environment(os.environ, logs) | prefect.client_settings
        self.variables |= {name: os.environ[name] for name in ("DATABASE_URL", "STORAGE_ROOT")}
        self.variables |= {"MAINTENANCE_DELETE_PAUSE_SECONDS": str(PAUSE_SECONDS)}
        self.worker = self.serve(logs)
        self.id = prefect.api.start_run(f"{JOB}/{DEPLOYMENT}", {"batch_size": 1})

    def serve(self, logs: Path) -> Child:
        options = ("--pool", WORK_POOL, "--type", "process", "--install-policy", "never")
        worker = prefect_command("worker", "start", *options)
        command = [sys.executable, "-m", "deployments.serving", *worker]
        variables = self.variables | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
        return start_child("the worker", command, logs / "worker.log", variables)

    def run(self) -> dict[str, Any]:
        found: dict[str, Any] = ask(self.prefect, "GET", f"/flow_runs/{self.id}")
        return found

    def states(self) -> list[dict[str, Any]]:
        found = ask(self.prefect, "GET", f"/flow_run_states/?flow_run_id={self.id}")
        return sorted(found, key=lambda one: str(one["timestamp"]))

    def set_state(self, kind: str, name: str, message: str) -> None:
        state = {"type": kind, "name": name, "message": message}
        ask(
            self.prefect,
            "POST",
            f"/flow_runs/{self.id}/set_state",
            {"state": state, "force": True},
        )

    def report(self) -> str:
        query = {"artifacts": {"flow_run_id": {"any_": [self.id]}, "key": {"any_": [JOB]}}}
        (found,) = ask(self.prefect, "POST", "/artifacts/filter", query)
        return str(found["data"])

    def sessions(self) -> int:
        return len(self.validibot.rows(schema.sessions))

    def deleted(self) -> int:
        return SESSIONS - self.sessions()

    def wait_for_work(self) -> None:
        before = self.sessions()
        wait_until(lambda: self.sessions() <= before - SOME, WAIT_SECONDS, "work", [self.worker])

    def wait_for_state(self, kind: str, seconds: float) -> None:
        wait_until(lambda: self.run()["state_type"] == kind, seconds, f"{kind} run", [])


@pytest.fixture
def running(
    deployed_server: PrefectServer,
    environment: Settings,
    validibot: Validibot,
    tmp_path: Path,
) -> Iterator[Running]:
    for _ in range(SESSIONS):
        validibot.session(NOW - DAY)
    begun = Running(deployed_server, validibot, tmp_path)
    try:
        begun.wait_for_work()
        yield begun
    finally:
        begun.worker.kill()
        begun.set_state("CANCELLED", "Cancelled", "for the next test to start")


def test_a_cancelled_run_ends_its_batch_reports_and_is_cancelled_in_ten_seconds(
    running: Running,
) -> None:
    command = prefect_command("flow-run", "cancel", running.id)
    subprocess.run(command, env=running.variables, check=True, capture_output=True, timeout=60)
    running.wait_for_state("CANCELLED", STOP_SECONDS)
    deleted = running.deleted()
    assert f"{deleted} of {deleted} done, stopped on request" in running.report()
    messages = [state["message"] for state in running.states() if state["type"] == "CANCELLED"]
    assert f"{deleted} of {deleted} done, stopped on request" in messages
    running.worker.check()


def test_a_stopped_worker_takes_its_runs_along_in_ten_seconds(running: Running) -> None:
    started = time.monotonic()
    running.worker.process.terminate()
    running.worker.process.wait(STOP_SECONDS)
    running.wait_for_state("CANCELLED", STOP_SECONDS - (time.monotonic() - started))
    deleted = running.deleted()
    assert running.run()["state"]["message"] == f"{deleted} of {deleted} done, stopped on request"
    assert "Stopped because: cancelled" in running.report()


def test_a_run_that_is_taken_for_dead_and_started_again_works_on_and_says_how_it_ended(
    running: Running,
) -> None:
    running.set_state("CRASHED", "Crashed", "No sign of life, wrongly")
    running.set_state("SCHEDULED", "AwaitingRetry", "Started again")
    log = running.worker.log
    wait_until(
        lambda: "an earlier process of this run is at work" in log.read_text(),
        WAIT_SECONDS,
        "a second process",
        [running.worker],
    )
    running.wait_for_work()
    run = running.run()
    assert (run["state_type"], run["run_count"]) == ("RUNNING", 2)
    command = prefect_command("flow-run", "cancel", running.id)
    subprocess.run(command, env=running.variables, check=True, capture_output=True, timeout=60)
    running.wait_for_state("CANCELLED", STOP_SECONDS)
