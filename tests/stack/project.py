"""A project of Compose on an engine, and its parts from outside."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.errors import NotFound

from tests.stack.engine import execute

COMMAND_SECONDS = 400
KEPT = ("PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR")
"""Of this machine's environment, besides what says where the engine is."""


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


class Project:
    """One project, under the names that Compose gives to what belongs to it."""

    def __init__(
        self,
        client: APIClient,
        compose: Sequence[str],
        project: str,
        folder: Path,
        files: Sequence[Path],
    ) -> None:
        self.client = client
        self.project = project
        self._command = [*compose, "--project-name", project, "--project-directory", str(folder)]
        for path in files:
            self._command += ["--file", str(path)]

    def compose(self, *arguments: str, **variables: str) -> str:
        """Run a command of Compose, and return what it printed; it must end well."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in KEPT or name.startswith("DOCKER_")
        }
        ran = subprocess.run(
            [*self._command, *arguments],
            env=environment | variables,
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

    def python(self, service: str, code: str, *arguments: str, **options: str) -> str:
        """Run Python in a service's container; return what it printed."""
        command = ["python", "-c", code, *arguments]
        return execute(self.client, self.container(service), command, **options)

    def logs(self) -> str:
        """The last words of every service."""
        return self.compose("logs", "--tail", "25")

    def _of_project(self, kind: str, **options: Any) -> Any:
        filters = {"label": f"com.docker.compose.project={self.project}"}
        return getattr(self.client, kind)(filters=filters, **options)
