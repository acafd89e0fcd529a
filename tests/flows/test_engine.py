"""The process of a flow run: it waits for its server, and otherwise behaves as Prefect's own."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from demo.environment import clean_environment
from demo.ports import LOCALHOST, free_port
from demo.processes import Child, start_child, wait_until
from demo.servers import PrefectServer
from flows.engine import (
    NO_SERVER,
    YOUNG_OBJECTS,
    health_address,
    wait_for_server,
    why_unreachable,
)
from maintenance import schema
from maintenance.settings import Settings
from tests.support.memory import temporary_folder
from tests.support.prefect_server import ask
from tests.support.validibot import DAY, NOW, Validibot

OURS, PREFECTS = "flows.engine", "prefect.engine"
JOB = "clear-sessions"
WAITS = "for the Prefect server"
WAIT_SECONDS = 60.0
AT_ONCE_SECONDS = 5.0
REFUSED = f"[Errno {errno.ECONNREFUSED}] Connection refused"


class Odd(BaseHTTPRequestHandler):
    """Answers with the status that the path begins with, or closes the connection."""

    def do_GET(self) -> None:
        wanted = self.path.split("/")[1]
        if wanted != "hang-up":
            self.send_response(int(wanted))
            self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Do not log."""


class Healthy(Odd):
    """Answers every request with status 200."""

    def do_GET(self) -> None:
        self.send_response(HTTPStatus.OK)
        self.end_headers()


def answer_once(server: HTTPServer) -> None:
    with server:
        server.handle_request()


@pytest.fixture(scope="module")
def odd() -> Iterator[str]:
    with ThreadingHTTPServer((LOCALHOST, 0), Odd) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"{LOCALHOST}:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("answer", ["200", "204", "401", "403", "404", "429", "499"])
def test_a_server_that_answers_is_reachable(odd: str, answer: str) -> None:
    assert why_unreachable(f"http://{odd}/{answer}/health") is None


@pytest.mark.parametrize("answer", ["500", "502", "503", "504"])
def test_a_proxy_without_its_server_is_unreachable(odd: str, answer: str) -> None:
    assert (
        why_unreachable(f"http://{odd}/{answer}/health")
        == f"HTTP Error {answer}: "
        + {
            "500": "Internal Server Error",
            "502": "Bad Gateway",
            "503": "Service Unavailable",
            "504": "Gateway Timeout",
        }[answer]
    )


def test_an_unreachable_server_is_told_from_problems_that_prefect_reports(odd: str) -> None:
    assert why_unreachable(f"http://{LOCALHOST}:{free_port()}/api/health") == REFUSED
    assert why_unreachable(f"http://{odd}/hang-up/health")  # the connection is closed
    assert why_unreachable("http://server.invalid/api/health")  # as for a stopped container
    assert why_unreachable(f"https://{odd}/200/health") is None  # the server does not speak TLS


def test_a_server_that_does_not_answer_in_time_is_unreachable() -> None:
    with listener() as address:
        assert why_unreachable(f"http://{address}/api/health", seconds=0.2) == "timed out"


@contextmanager
def listener() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with ThreadingHTTPServer((LOCALHOST, 0), Odd) as server:
        yield f"{LOCALHOST}:{server.server_port}"


@pytest.mark.parametrize("address", ["ftp://a/api", "http://[", "/api", "http://a:b/api"])
def test_an_invalid_address_is_left_to_prefect(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wait_for_server(health_address(address), WAIT_SECONDS)
    assert capsys.readouterr().err == ""


def test_a_login_in_the_address_is_neither_sent_nor_logged(
    odd: str, capsys: pytest.CaptureFixture[str]
) -> None:
    address = health_address(f"http://user:secret@{odd}/503/")
    assert address == f"http://{odd}/503/health"
    assert not wait_for_server(address, 0.0)
    assert "secret" not in capsys.readouterr().err


def test_without_a_server_the_wait_ends_with_a_message_and_its_own_status(
    tmp_path: Path,
) -> None:
    address = f"http://{LOCALHOST}:{free_port()}/api"
    command = [sys.executable, "-c", "from flows import engine; engine.main(1.0)", str(uuid4())]
    variables = {"PREFECT_API_URL": address, "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run(
        command,
        env=clean_environment(os.environ, tmp_path) | variables,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == NO_SERVER == 75
    assert done.stderr.splitlines() == [
        f"python -m flows.engine: waiting up to 1 s {WAITS}: {address}/health: {REFUSED}",
        f"python -m flows.engine: gave up after 1 s without the Prefect server: {REFUSED}",
    ]


def waiting(directory: Path, variables: dict[str, str], run: str) -> Child:
    """Start the process of a run that finds no server; return it while it waits."""
    command = [sys.executable, "-m", OURS, run]
    environment = clean_environment(os.environ, directory) | variables
    child = start_child("the run", command, directory / "run.log", environment)
    wait_until(lambda: WAITS in child.said(), WAIT_SECONDS, "its wait", [child])
    return child


def test_a_run_that_waits_is_ended_by_the_usual_signal_at_once(tmp_path: Path) -> None:
    variables = {"PREFECT_API_URL": f"http://{LOCALHOST}:{free_port()}/api"}
    child = waiting(tmp_path, variables | {"PREFECT_HOME": str(tmp_path)}, str(uuid4()))
    child.process.terminate()
    assert child.process.wait(AT_ONCE_SECONDS) == -signal.SIGTERM


class Runs:
    """A server with deployments, whose runs the test starts as a worker does."""

    def __init__(self, server: PrefectServer) -> None:
        self.server = server
        flow = ask(server, "POST", "/flows/", {"name": JOB})["id"]
        self.deployments = {
            name: ask(
                server,
                "POST",
                "/deployments/",
                {"name": name, "flow_id": flow, "entrypoint": entrypoint, "pull_steps": []},
            )["id"]
            for name, entrypoint in {
                "default": "flows.clear_sessions.clear_sessions",
                "unloadable": "flows.absent.absent",
            }.items()
        }

    def make(self, deployment: str = "default", **parameters: Any) -> str:
        path = f"/deployments/{self.deployments[deployment]}/create_flow_run"
        body = {"state": {"type": "PENDING"}, "parameters": parameters}
        return str(ask(self.server, "POST", path, body)["id"])

    def run(self, identifier: str) -> dict[str, Any]:
        found: dict[str, Any] = ask(self.server, "GET", f"/flow_runs/{identifier}")
        return found

    def status(self, module: str, directory: Path, argument: str) -> int:
        """Run a process to its end; return its exit status."""
        done = subprocess.run(
            [sys.executable, "-m", module, argument],
            cwd=directory,
            env=clean_environment(os.environ, directory) | self.variables,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
        assert "flows.engine:" not in done.stderr  # it did not wait
        return done.returncode

    @property
    def variables(self) -> dict[str, str]:
        jobs = {name: os.environ[name] for name in ("DATABASE_URL", "STORAGE_ROOT")}
        return self.server.client_settings | jobs


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    with temporary_folder() as name:
        home = Path(name)
        with PrefectServer(home, home, clean_environment(os.environ, home)) as server:
            server.wait_until_ready()
            yield Runs(server)


def completes(runs: Runs, run: str, child: Child) -> None:
    """Restart the server that a run's process waits for; the run then completes, once."""
    try:
        runs.server.restart()
        assert child.process.wait(WAIT_SECONDS) == 0, child.said()
    finally:
        child.kill()
    found = runs.run(run)
    assert (found["state_type"], found["run_count"]) == ("COMPLETED", 1)


@pytest.mark.server
@pytest.mark.slow
def test_a_run_that_starts_while_the_server_is_down_completes_when_it_is_back(
    runs: Runs, environment: Settings, validibot: Validibot, tmp_path: Path
) -> None:
    validibot.session(NOW - DAY)
    run = runs.make()
    runs.server.child.kill()
    child = waiting(tmp_path, runs.variables, run)
    completes(runs, run, child)
    assert "python -m flows.engine: the Prefect server answers" in child.said()
    assert validibot.rows(schema.sessions) == {}


@pytest.mark.server
@pytest.mark.slow
def test_a_run_whose_server_goes_away_before_its_first_connection_starts_again(
    runs: Runs, environment: Settings, validibot: Validibot, tmp_path: Path
) -> None:
    validibot.session(NOW - DAY)
    run = runs.make()
    runs.server.child.kill()
    port = urlsplit(runs.server.client_settings["PREFECT_API_URL"]).port
    assert port is not None
    thread = threading.Thread(target=answer_once, args=(HTTPServer((LOCALHOST, port), Healthy),))
    thread.start()
    child = waiting(tmp_path, runs.variables, run)
    thread.join()
    completes(runs, run, child)
    assert child.said().count("lost the Prefect server, starting again") == 1
    assert validibot.rows(schema.sessions) == {}


@pytest.mark.server
@pytest.mark.slow
def test_the_exit_status_is_that_of_prefects_engine(
    runs: Runs, environment: Settings, validibot: Validibot, tmp_path: Path
) -> None:
    def statuses(module: str) -> dict[str, int]:
        cases = {
            "no identifier": "nonsense",
            "no such run": str(uuid4()),
            "cannot be loaded": runs.make("unloadable"),
            "failed": runs.make(as_of="2999-01-01T00:00:00Z"),
            "completed": runs.make(),
        }
        found = {name: runs.status(module, tmp_path, run) for name, run in cases.items()}
        assert runs.run(cases["failed"])["state_type"] == "FAILED"
        assert runs.run(cases["completed"])["state_type"] == "COMPLETED"
        return found

    ours = statuses(OURS)
    assert ours == statuses(PREFECTS)
    assert ours["cannot be loaded"] == 1
    assert ours["completed"] == 0


GARBAGE = f"""
import atexit, gc, weakref
from flows.engine import reduce_garbage_collection
reduce_garbage_collection()

class Node:
    def __init__(self):
        self.me = self

born, alive = {10 * YOUNG_OBJECTS}, weakref.WeakSet()
most = 0
for _ in range(born):
    alive.add(Node())
    most = max(most, len(alive))
atexit.register(lambda: print(most, gc.get_freeze_count()))

class Last(Node):
    def __del__(self):
        print("collected at exit")

Last()
"""


def test_garbage_is_collected_in_a_long_run_but_not_at_exit(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GARBAGE],
        env=clean_environment(os.environ, tmp_path),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=True,
    )
    most, frozen = (int(number) for number in done.stdout.split())
    assert 1_000 < most <= YOUNG_OBJECTS
    assert frozen == 0  # handlers of other modules run before the freeze
