"""The stack of compose.yaml, brought up with a demo's settings, and its parts from outside."""

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from docker import APIClient
from docker.errors import APIError, NotFound

from demo.ports import free_port
from tests.stack.engine import execute, run_once
from tests.stack.stand_ins import ROOT, python_image

T = TypeVar("T")

COMPOSE_FILES = (ROOT / "compose.yaml", Path(__file__).with_name("compose.build.yaml"))
COMMAND_SECONDS = 400
CALL_SECONDS = 120
POLL_SECONDS = 0.5
LOGIN = "operator:correct horse: battery/staple@%"
KEPT = ("PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR")
"""Of this machine's environment, besides what says where the engine is."""

REQUEST = """
import base64, json, os, sys, urllib.request
login = base64.b64encode(os.environ["PREFECT_SERVER_API_AUTH_STRING"].encode()).decode()
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


def compose_command() -> list[str] | None:
    """How Compose is called on this machine: as a plug-in of Docker's client, or by itself."""
    docker = shutil.which("docker")
    if docker:
        plugin = [docker, "compose"]
        asked = subprocess.run([*plugin, "version"], capture_output=True, check=False, timeout=30)
        if asked.returncode == 0:
            return plugin
    alone = shutil.which("docker-compose")
    return [alone] if alone else None


class Stack:
    """One project of Compose, with names of its own."""

    def __init__(self, client: APIClient, compose: Sequence[str], directory: Path) -> None:
        self.client = client
        self.project = f"vm-test-{uuid.uuid4().hex[:8]}"
        self.image = f"validibot-maintenance:{self.project}"
        self.storage = f"{self.project}-validibot-storage"
        self.network = f"{self.project}-validibot"
        self.port = free_port()
        self._compose = compose
        self._environment = directory / "stack.env"
        host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        socket = host.removeprefix("unix://") if host.startswith("unix://") else "/dev/null"
        settings = {
            "PREFECT_DATABASE_PASSWORD": uuid.uuid4().hex + "@:/%",
            "PREFECT_AUTH_STRING": LOGIN,
            "PREFECT_PORT": self.port,
            "PREFECT_PUBLIC_URL": f"http://127.0.0.1:{self.port}",
            "MAINTENANCE_DATABASE_URL": "postgresql://validibot@demo-database/validibot",
            "MAINTENANCE_IMAGE": self.image,
            "VALIDIBOT_ENV_FILE": ROOT / "compose.demo.env",
            "VALIDIBOT_STORAGE_VOLUME": self.storage,
            "VALIDIBOT_NETWORK": self.network,
            "DOCKER_GID": Path(socket).stat().st_gid,
            "DOCKER_SOCKET": socket,
        }
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        self._environment.write_text("".join(lines))

    def compose(self, *arguments: str, packages: str = "unused") -> str:
        """Run a command of Compose, and return what it printed; it must end well."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in KEPT or name.startswith("DOCKER_")
        }
        files = [option for path in COMPOSE_FILES for option in ("--file", str(path))]
        ran = subprocess.run(
            [
                *(*self._compose, "--project-name", self.project),
                *("--project-directory", str(ROOT), "--env-file", str(self._environment)),
                *(*files, "--profile", "demo", *arguments),
            ],
            env=environment | {"PACKAGES_ADDRESS": packages},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
        assert ran.returncode == 0, ran.stdout[-6000:]
        return ran.stdout

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine knows of each service's container."""
        found = {}
        for entry in self._of_project("containers", all=True):
            with suppress(NotFound):
                one = self.client.inspect_container(entry["Id"])
                found[entry["Labels"]["com.docker.compose.service"]] = one
        return found

    def container(self, service: str) -> str:
        """The identifier of a service's container."""
        identifier: str = self.containers()[service]["Id"]
        return identifier

    def left(self) -> set[str]:
        """The names of all that the project has on the engine."""
        volumes = self._of_project("volumes")["Volumes"] or []
        found = [*self._of_project("networks"), *volumes]
        return {one["Name"] for one in found} | set(self.containers())

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

    def select(self, statement: str) -> set[str]:
        """The rows that a statement gives in Validibot's database."""
        psql = ["psql", "-U", "validibot", "-d", "validibot", "-Atc", statement]
        said = execute(self.client, self.container("demo-database"), psql)
        return set(said.splitlines())

    def python(self, service: str, code: str, *arguments: str) -> str:
        """Run Python in a service's container; return what it printed."""
        return execute(self.client, self.container(service), ["python", "-c", code, *arguments])

    def from_host(self, code: str, **options: Any) -> str:
        """Run Python on the engine's own network; return what it printed."""
        return run_once(self.client, python_image(), ["python", "-c", code], **options)

    def history(self) -> list[dict[str, Any]]:
        """The layers of the image, and how each was made."""
        client: Any = self.client  # this method has no types
        found: list[dict[str, Any]] = client.history(self.image)
        return found

    def make_outside(self) -> None:
        """Make what belongs to Validibot: its storage and its network."""
        self.client.create_volume(self.storage)
        self.client.create_network(self.network)

    def remove_outside(self) -> None:
        """Remove that, and the image."""
        for remove in (
            lambda: self.client.remove_volume(self.storage),
            lambda: self.client.remove_network(self.network),
            lambda: self.client.remove_image(self.image, force=True),
        ):
            with suppress(APIError):
                remove()

    def logs(self) -> str:
        """The last words of every service."""
        return self.compose("logs", "--tail", "25")

    def _of_project(self, kind: str, **options: Any) -> Any:
        filters = {"label": f"com.docker.compose.project={self.project}"}
        return getattr(self.client, kind)(filters=filters, **options)


def wait_for(look: Callable[[], T | None], seconds: float, what: str, stack: Stack) -> T:
    """Wait until something is seen, and return it."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what}: not in {seconds} s\n{stack.logs()}"
        time.sleep(POLL_SECONDS)
    return seen


@contextmanager
def stack_on(client: APIClient, compose: Sequence[str], directory: Path) -> Iterator[Stack]:
    """Give a project that is not up yet, and remove all of it at the end."""
    stack = Stack(client, compose, directory)
    stack.make_outside()
    try:
        yield stack
    finally:
        with suppress(AssertionError, subprocess.TimeoutExpired):
            stack.compose("down", "--volumes", "--timeout", "5")
        stack.remove_outside()
