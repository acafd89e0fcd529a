"""compose.demo.yaml as the guide has it started: one command, and no settings."""

import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from subprocess import TimeoutExpired
from typing import Any

from docker import APIClient

from demo.ports import free_port
from tests.stack.engine import execute, run_once
from tests.stack.inspecting import shown
from tests.stack.project import Project
from tests.stack.stand_ins import ROOT, python_image

READY_SECONDS = 120
POLL_SECONDS = 0.5
STAYING = {f"demo-{name}" for name in ("database", "server", "worker", "watch")}
ENDING = {f"demo-{name}" for name in ("login", "data", "deploy", "ready")}
LOGIN_FILE = "/var/lib/prefect/login"
PURGE = ["prefect", "deployment", "run", "purge-expired-submissions/default", "--watch"]
STATUS = """
import base64, http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
login = base64.b64encode(sys.argv[2].encode()).decode()
connection.request("GET", "/api/admin/version", headers={"Authorization": "Basic " + login})
print(connection.getresponse().status)
"""


def demo_of_the_guide_works(client: APIClient, compose: Sequence[str], image: str) -> None:
    """Start it, log in with what it prints, run a job, and remove it."""
    project = f"vm-test-{uuid.uuid4().hex[:8]}"
    demo = Project(client, compose, project, ROOT, [ROOT / "compose.demo.yaml"])
    port = free_port()
    variables = {"MAINTENANCE_IMAGE": image, "PREFECT_PORT": str(port)}
    try:
        demo.compose("up", "--detach", "--no-build", **variables)
        said = wait_until_ready(demo)
        login = said.partition("log in with ")[2].partition(")")[0]
        assert f"http://127.0.0.1:{port} " in said
        assert login == execute(client, demo.container("demo-server"), ["cat", LOGIN_FILE])
        for given, expected in ((login, "200"), (f"{login}x", "401")):
            asked = ["python", "-c", STATUS, str(port), given]
            assert run_once(client, python_image(), asked).strip() == expected
        assert shown(demo, [login]) == ["logs"]  # it is printed
        assert "Completed" in execute(client, demo.container("demo-worker"), PURGE)
    finally:
        with suppress(AssertionError, TimeoutExpired):
            demo.compose("down", "--volumes", "--timeout", "5", **variables)


def wait_until_ready(demo: Project) -> str:
    """Wait until everything has started; return what the last service said."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        states: dict[str, Any] = {
            name: (one["State"]["Status"], one["State"]["ExitCode"])
            for name, one in demo.containers().items()
        }
        if states.get("demo-ready") == ("exited", 0):
            break
        assert time.monotonic() < deadline, f"{states}\n{demo.logs()}"
        time.sleep(POLL_SECONDS)
    assert {name for name, state in states.items() if state[0] == "running"} == STAYING
    assert {name: state for name, state in states.items() if name in ENDING} == dict.fromkeys(
        ENDING, ("exited", 0)
    )
    return demo.compose("logs", "demo-ready")
