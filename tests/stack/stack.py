"""The stack of compose.yaml, and its server from outside."""

import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from docker import APIClient

from demo.ports import free_port
from tests.stack.engine import execute, run_once
from tests.stack.project import Project
from tests.stack.stand_ins import ROOT, python_image

T = TypeVar("T")

BUILD_FILE = Path(__file__).with_name("compose.build.yaml")
BESIDE_THE_CODE = ("compose.yaml", "compose.demo.yaml", "Dockerfile", ".dockerignore")
OF_THE_OPERATOR = (".env.example", "docs")
CALL_SECONDS = 120
POLL_SECONDS = 0.5
LOGIN = "operator:correct horse: battery/staple@%"

REQUEST = """
import base64, json, sys, urllib.request
login = base64.b64encode(open("/run/secrets/prefect-login").read().encode()).decode()
method, path, body = sys.argv[1:]
api = "http://127.0.0.1:4200/api"
headers = {"Authorization": "Basic " + login, "Content-Type": "application/json"}
token = urllib.request.Request(api + "/csrf-token?client=test", headers=headers)
headers["Prefect-Csrf-Client"] = "test"
headers["Prefect-Csrf-Token"] = json.load(urllib.request.urlopen(token, timeout=30))["token"]
request = urllib.request.Request(
    api + path, data=body.encode() or None, method=method, headers=headers)
print(urllib.request.urlopen(request, timeout=30).read().decode() or "null")
"""


class Stack(Project):
    """The stack in a copy of this checkout, under a project name of its own.

    Its settings are in a file of the folder, in which Compose finds them: the operator's, and over
    them those of the tests.
    """

    def __init__(
        self,
        client: APIClient,
        compose: Sequence[str],
        folder: Path,
        image: str,
        settings: Path,
    ) -> None:
        files = [folder / "compose.yaml", BUILD_FILE]
        super().__init__(client, compose, f"vm-test-{uuid.uuid4().hex[:8]}", folder, files)
        self.image = image
        self.folder = folder
        self.port = free_port()
        self.settings = settings
        self.own = {
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_FILE": os.pathsep.join(map(str, files)),
            "PACKAGES_ADDRESS": "unused",
            "PREFECT_NETWORK": self.project,
            "MAINTENANCE_ENGINE_NETWORK": f"{self.project}-engine",
            "MAINTENANCE_SECRETS": str(folder / "secrets"),
            "PREFECT_PORT": str(self.port),
            "PREFECT_PUBLIC_URL": f"http://127.0.0.1:{self.port}",
            "MAINTENANCE_IMAGE": image,
        }
        self._command += ["--env-file", str(settings)]
        self._own_secrets = {
            "prefect-database-password": uuid.uuid4().hex + "@:/%",
            "prefect-login": LOGIN,
        }

    def configure(self, **settings: str) -> dict[str, str]:
        """Put settings, and the tests' own ones, into the file; return what was there before.

        The tests' own secrets are put into their files, too.
        """
        before = dict(re.findall(r"^(\w+)=(.*)$", self.settings.read_text(), re.MULTILINE))
        chosen = before | settings | self.own
        self.settings.write_text("".join(f"{name}={value}\n" for name, value in chosen.items()))
        folder = self.folder / "secrets"
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, value in self._own_secrets.items():
            (folder / name).write_text(value)
        return before

    @property
    def secrets(self) -> dict[str, str]:
        """The secrets by the names of their files."""
        return {one.name: one.read_text().strip() for one in (self.folder / "secrets").iterdir()}

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Make a request to the Prefect server, from where it is."""
        text = "" if body is None else json.dumps(body)
        request = ["python", "-c", REQUEST, method, path, text]
        return json.loads(execute(self.client, self.container("server"), request))

    def run(self, deployment: str, parameters: dict[str, Any]) -> str:
        """Ask for a run of a deployment; return its identifier."""
        found = self.ask("GET", f"/deployments/name/{deployment}")
        body = {"parameters": parameters}
        made = self.ask("POST", f"/deployments/{found['id']}/create_flow_run", body)
        return str(made["id"])

    def wait_for_run(self, identifier: str, seconds: float) -> dict[str, Any]:
        """Wait until a run is in a final state; return it."""
        final = ("COMPLETED", "FAILED", "CANCELLED")

        def ended() -> dict[str, Any] | None:
            found: dict[str, Any] = self.ask("GET", f"/flow_runs/{identifier}")
            return found if found["state_type"] in final else None

        return wait_for(ended, seconds, f"the end of run {identifier}", self)

    def from_host(self, code: str, **options: Any) -> str:
        """Run Python on the engine's own network; return what it printed."""
        return run_once(self.client, python_image(), ["python", "-c", code], **options)

    def history(self) -> list[dict[str, Any]]:
        """The layers of the image, and how each was made."""
        client: Any = self.client  # this method has no types
        found: list[dict[str, Any]] = client.history(self.image)
        return found


def engine_socket() -> str:
    """The socket of the engine, as far as it has one."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    return host.removeprefix("unix://") if host.startswith("unix://") else "/dev/null"


def wait_for(look: Callable[[], T | None], seconds: float, what: str, stack: Stack) -> T:
    """Wait until something is seen, and return it."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what}: not in {seconds} s\n{stack.logs()}"
        time.sleep(POLL_SECONDS)
    return seen


def checkout(directory: Path) -> Path:
    """Copy what a stack is built and started from; return the folder."""
    folder = directory / "validibot-maintenance"
    folder.mkdir()
    sent = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for name in (*BESIDE_THE_CODE, *OF_THE_OPERATOR, *sent):
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, folder)
    return folder


@contextmanager
def stack_on(
    client: APIClient, compose: Sequence[str], folder: Path, image: str, name: str = ".env"
) -> Iterator[Stack]:
    """Give a project that is not up yet, and remove all of it at the end."""
    stack = Stack(client, compose, folder, image, folder / name)
    try:
        yield stack
    finally:
        with suppress(AssertionError, subprocess.TimeoutExpired):
            stack.compose("down", "--volumes", "--timeout", "5")
