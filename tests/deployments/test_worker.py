"""`python -m deployments.worker` against a real server: one clean-up, then a worker."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from sqlalchemy import URL

from demo.environment import clean_environment
from demo.ports import free_port
from demo.servers import PrefectServer
from deployments.worker import TAG, request_clean_up, worker_command, worker_environment
from flows.cleanup_orphaned_containers import cleanup_orphaned_containers
from tests.support.commands import run_command, without_prefect
from tests.support.prefect_server import ask, edit_schedule, settings_of

JOB = cleanup_orphaned_containers.name
WAIT_SECONDS = 90
pytestmark = pytest.mark.timeout(400)  # a server, an apply and two workers, on a busy machine
SKIPPED = ("Skipped", "Skipped")
ANOTHER_ONE = ("Cancelled", "Deployment concurrency limit reached.")
NOON = datetime(2026, 11, 15, 12, tzinfo=UTC)


def wait_for(ready: Callable[[], object]) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := ready()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


class Worker:
    """A worker that was started with our command, and its health endpoint."""

    def __init__(self, directory: Path, environment: dict[str, str], *options: str) -> None:
        self.port = free_port()
        self.extra = options[options.index("--") + 1 :] if "--" in options else ()
        self.errors = directory / f"{self.port}.err"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deployments.worker", *options],
                cwd=directory,
                env=clean_environment(os.environ, directory)
                | environment
                | {"PREFECT_WORKER_WEBSERVER_PORT": str(self.port)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    def command(self) -> list[str]:
        return psutil.Process(self.process.pid).cmdline()

    def healthy(self) -> bool:
        assert self.process.poll() is None, self.errors.read_text()
        with suppress(httpx.TransportError):
            address = f"http://127.0.0.1:{self.port}/health"
            return httpx.get(address, trust_env=False).is_success
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def started(environment: dict[str, str], *options: str) -> Worker:
        workers.append(Worker(tmp_path, environment, *options))
        return workers[-1]

    yield started
    for worker in workers:
        family = [worker.process.pid]
        with suppress(psutil.Error):
            children = psutil.Process(worker.process.pid).children(recursive=True)
            family += [child.pid for child in children]
        for pid in family:
            with suppress(psutil.Error):
                psutil.Process(pid).kill()
        worker.process.wait()


def runs_since(server: PrefectServer, moment: datetime) -> list[dict[str, Any]]:
    query = {
        "flows": {"name": {"any_": [JOB]}},
        "flow_runs": {"start_time": {"after_": moment.isoformat()}},
    }
    found: list[dict[str, Any]] = ask(server, "POST", "/flow_runs/filter", query)
    return found


def ends_of(runs: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Return the states of runs, with what their messages begin with."""
    return {(one["state_name"], (one["state"]["message"] or "").partition(":")[0]) for one in runs}


def pools(server: PrefectServer) -> set[str]:
    return {one["name"] for one in ask(server, "POST", "/work_pools/filter", {})}


def runs_at_start(server: PrefectServer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(
        server, "POST", "/flow_runs/filter", {"flow_runs": {"tags": {"all_": [TAG]}}}
    )
    return found


@pytest.mark.slow
def test_workers_that_start_together_ask_for_one_clean_up_and_serve_it(
    deployed_server: PrefectServer,
    start: Callable[..., Worker],
    database_url: URL,
    template_database: str,
    storage_root: Path,
) -> None:
    environment = deployed_server.client_settings | {
        "DATABASE_URL": database_url.render_as_string(hide_password=False),
        "STORAGE_ROOT": str(storage_root),
    }
    begun = datetime.now(UTC).replace(second=0)
    workers = [start(environment, "--", "--name", name) for name in "ab"]
    for worker in workers:
        wait_for(worker.healthy)
        serving = ["-m", "deployments.serving"]
        served = worker_command("maintenance", worker.extra)
        assert worker.command()[1:] == [*serving, *served]
        assert "no clean-up" not in worker.errors.read_text()
        # It has another one, for the processes of its runs.
        bound = {
            (one.laddr.ip, one.laddr.port)
            for process in psutil.Process(worker.process.pid).children()
            for one in process.net_connections("tcp")
            if one.status == psutil.CONN_LISTEN
        }
        assert ("127.0.0.1", worker.port) in bound
        assert {address for address, _ in bound} == {"127.0.0.1"}

    def over() -> list[dict[str, Any]]:
        runs = runs_at_start(deployed_server)
        final = [one for one in runs if one["state_type"] in ("COMPLETED", "FAILED", "CANCELLED")]
        return runs if runs and len(final) == len(runs) else []

    runs = wait_for(over)
    minutes = (datetime.now(UTC) - begun).total_seconds() // 60
    assert 1 <= len(runs) <= 1 + minutes
    assert all(one["parameters"] == {} for one in runs)
    # This Validibot has no container engine, so the run says so and ends; or a scheduled one does,
    # that was going just then.
    assert ends_of(runs) <= {SKIPPED, ANOTHER_ONE}
    wait_for(lambda: SKIPPED in ends_of(runs_since(deployed_server, begun)))


@pytest.mark.slow
def test_in_the_same_minute_the_same_run_is_asked_for_and_none_for_a_paused_job(
    deployed_server: PrefectServer,
) -> None:
    with temporary_settings(settings_of(deployed_server)):
        before = len(runs_at_start(deployed_server))
        for second in (0, 1, 59):
            assert request_clean_up(NOON.replace(second=second)) is None
        assert len(runs_at_start(deployed_server)) == before + 1
        assert request_clean_up(NOON.replace(minute=1)) is None
        assert len(runs_at_start(deployed_server)) == before + 2
        edit_schedule(deployed_server, JOB, {"active": False})
        assert request_clean_up(NOON.replace(minute=2)) == f"{JOB}/default is paused"
        edit_schedule(deployed_server, JOB, {"active": True})
        assert len(runs_at_start(deployed_server)) == before + 2


def test_a_server_where_nothing_is_deployed_is_said(prefect_server: PrefectServer) -> None:
    with temporary_settings(settings_of(prefect_server)):
        assert request_clean_up(NOON) == (
            f"there is no deployment {JOB}/default; `python -m deployments` makes it"
        )


def test_a_work_pool_that_does_not_exist_is_refused_with_the_nearest_name(
    deployed_server: PrefectServer,
) -> None:
    before = pools(deployed_server)
    done = run_command(
        *("deployments.worker", "--pool", "maintenence"),
        env=without_prefect(**deployed_server.client_settings),
    )
    assert (done.returncode, done.stdout) == (1, "")
    said = "python -m deployments.worker: there is no work pool maintenence; do you mean"
    assert done.stderr == f"{said} maintenance?\n"
    assert pools(deployed_server) == before


def test_a_server_without_the_work_pool_is_refused_with_the_command_that_makes_it(
    prefect_server: PrefectServer,
) -> None:
    done = run_command("deployments.worker", env=without_prefect(**prefect_server.client_settings))
    assert done.returncode == 1
    assert done.stderr.endswith("no work pool maintenance; `python -m deployments` makes it\n")
    assert pools(prefect_server) == set()


def test_the_worker_makes_no_work_pool() -> None:
    assert "--no-create-pool-if-not-found" in worker_command("maintenance", [])


@pytest.mark.slow
def test_a_server_that_is_away_is_a_warning_and_the_worker_starts(
    start: Callable[..., Worker], tmp_path: Path
) -> None:
    address = f"http://user:secret@127.0.0.1:{free_port()}/api"
    worker = start({"PREFECT_API_URL": address, "PREFECT_HOME": str(tmp_path / "home")})
    wait_for(lambda: "deployments.serving" in worker.command())
    assert worker.errors.read_text() == (
        "python -m deployments.worker: no clean-up at start:"
        " the Prefect server does not answer: ConnectError\n"
    )


def test_a_server_that_is_not_named_is_said() -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert request_clean_up(NOON) == "PREFECT_API_URL is not set"


def test_what_the_environment_says_is_kept_and_the_rest_is_sensible() -> None:
    ours = str(Path(sys.executable).parent)
    assert worker_environment({"PATH": "/bin", "A": ""}) == {
        "PATH": f"{ours}:/bin",
        "A": "",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_WORKER_PREFETCH_SECONDS": "3",
        "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
    }
    kept = {
        "PATH": f"{ours}:/bin",
        "PREFECT_WORKER_QUERY_SECONDS": "10",
        "PREFECT_WORKER_PREFETCH_SECONDS": "10",
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "502",
        "PREFECT_WORKER_WEBSERVER_HOST": "0.0.0.0",  # noqa: S104 - an operator's own choice
    }
    assert worker_environment(kept) == kept
