"""A second worker of a name is told, at its start and by the preflight, and starts all the same."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from demo.environment import clean_environment
from demo.ports import free_port
from demo.processes import wait_until
from demo.servers import PrefectServer
from deployments.client import server
from deployments.monitoring.preflight import deployment_checks
from deployments.monitoring.worker_names import STARTED, STOPPED
from deployments.names import WORK_POOL
from deployments.worker import find_same_name, worker_name
from maintenance.checks.finding import Finding
from tests.support.jobs_on_server import heartbeat
from tests.support.prefect_server import ask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
SECONDS = 90


def events(prefect: PrefectServer, name: str) -> list[str]:
    """The starts and ends of the workers of a name that the server knows of, in order."""
    asked = {
        "event": {"name": [STARTED, STOPPED]},
        "resource": {"labels": {"prefect.resource.name": name}},
        "order": "ASC",
    }
    found = ask(prefect, "POST", "/events/filter", {"filter": asked, "limit": 50})
    return [one["event"] for one in found["events"]]


def seen(prefect: PrefectServer, name: str) -> datetime | None:
    """The last heartbeat of a name."""
    for one in ask(prefect, "POST", f"/work_pools/{WORK_POOL}/workers/filter", {}):
        if one["name"] == name:
            return datetime.fromisoformat(one["last_heartbeat_time"])
    return None


def worker_line() -> Finding:
    """What the preflight says about the workers."""
    (check,) = (one for one in deployment_checks() if "worker" in one.names)
    return next(one for one in check.run() if one.name == "worker")


@pytest.fixture
def start(tmp_path: Path, deployed: PrefectServer) -> Iterator[Callable[[str], Any]]:
    started: list[subprocess.Popen[bytes]] = []

    def begin(name: str) -> tuple[subprocess.Popen[bytes], Path]:
        said = tmp_path / f"{len(started)}.err"
        with said.open("wb") as errors:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "deployments.worker", "--", "--name", name],
                    cwd=tmp_path,
                    env=clean_environment(os.environ, tmp_path)
                    | deployed.client_settings
                    | {"PREFECT_WORKER_WEBSERVER_PORT": str(free_port())},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                )
            )
        return started[-1], said

    yield begin
    for process in started:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker with all that it has started, as a crash of its machine does."""
    with suppress(psutil.Error):
        for one in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):
                one.kill()
    process.kill()
    process.wait()


def warnings(said: Path) -> list[str]:
    """What our command printed before it became Prefect's worker."""
    lines = said.read_text().splitlines()
    return [line for line in lines if line.startswith("python -m deployments.worker: ")]


def test_a_second_worker_of_a_name_is_told_and_starts(
    deployed: PrefectServer, start: Callable[[str], Any]
) -> None:
    name = "twin"
    first, said = start(name)
    wait_until(lambda: STARTED in events(deployed, name), SECONDS, "a start", [])
    assert warnings(said) == []
    assert worker_line().level == "ok"

    second, said = start(name)
    wait_until(lambda: events(deployed, name) == [STARTED] * 2, SECONDS, "a second one", [])
    (warned,) = warnings(said)
    assert f"worker twin of work pool {WORK_POOL} was seen " in warned
    assert f"{datetime.now(UTC):%Y-%m-%d} " in warned
    assert "stop one of them, or give one another name (-- --name NAME)" in warned
    found = worker_line()
    assert found.level == "warning"
    assert found.text.startswith("twin was started at ")
    assert "two workers have this name" in found.text
    assert "if twin is still seen, another one runs" in found.action

    # A name that was ended is free at once, although its last heartbeat is fresh.
    for process in (first, second):
        process.send_signal(signal.SIGTERM)
    for process in (first, second):
        assert process.wait(SECONDS) is not None
    wait_until(lambda: events(deployed, name).count(STOPPED) == 2, SECONDS, "both ends", [])
    now = datetime.now(UTC)
    heard = seen(deployed, name)
    assert heard is not None
    assert now - heard < timedelta(minutes=2)
    assert find_same_name(WORK_POOL, name, now) is None
    assert worker_line().level == "ok"


def test_a_name_that_was_not_seen_lately_or_is_of_another_pool_is_free(
    deployed: PrefectServer,
) -> None:
    name = "heard"
    heartbeat(deployed, name)
    now = datetime.now(UTC)
    assert find_same_name(WORK_POOL, name, now) is None, "it never said that it started"
    with server() as client:
        pool = client.read_work_pool(WORK_POOL)
    event = {
        "id": "0197a1de-0000-7000-8000-000000000001",
        "event": STARTED,
        "occurred": now.isoformat(),
        "resource": {"prefect.resource.id": "prefect.worker.process.heard"}
        | {"prefect.resource.name": name},
        "related": [
            {"prefect.resource.id": f"prefect.work-pool.{pool.id}"}
            | {"prefect.resource.role": "work-pool", "prefect.resource.name": WORK_POOL}
        ],
    }
    ask(deployed, "POST", "/events", [event])
    wait_until(lambda: bool(events(deployed, name)), SECONDS, "the event", [])
    assert find_same_name(WORK_POOL, name, now) is not None
    assert find_same_name(WORK_POOL, name, now + timedelta(minutes=3)) is None
    assert find_same_name(WORK_POOL, "another", now) is None
    assert find_same_name("another", name, now) is None


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--name", "a"], "a"),
        (["--name=a"], "a"),
        (["--limit", "3", "-n", "a"], "a"),
        (["--name", ""], None),
        (["--name"], None),
        (["--prefetch-seconds", "3"], None),
        ([], None),
    ],
)
def test_the_name_is_found_among_the_options(options: list[str], name: str | None) -> None:
    assert worker_name(options) == name
