"""A stand-in for a self-hosted Validibot: its real names, users and modes, with the sample's data.

It has Validibot's project name, so an engine on which there is a Validibot is not used.
"""

import json
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

from docker import APIClient

from maintenance.storage.marker import MARKER
from tests.stack.engine import execute, run_once
from tests.stack.manage import DJANGO
from tests.stack.project import Project
from tests.stack.stack import engine_socket
from tests.support import beat

PROJECT = "validibot"
STORAGE, NETWORK = "validibot_validibot_storage", "validibot_validibot"
COMPOSE_FILE = Path(__file__).with_name("validibot.compose.yaml")
CODE = (Path(__file__).with_name("manage.py"), Path(beat.__file__))
ENV_FILES = ".envs/.production/.self-hosted"
SERVICES = {"web", "worker", "scheduler", "postgres", "redis"}

VALIDATOR = 1_000
"""The user and group of the validators' containers."""

OWNER = "validibot_user"
"""The role that owns the tables."""

LOADED_SECONDS = 120
POLL_SECONDS = 0.5

OPEN_OUTPUT = """
import pathlib
for output in pathlib.Path("/app/storage/private/runs").glob("*/*/attempts/*/output"):
    output.chmod(0o1777)
"""
"""Django cannot give a directory to another user, so it opens it to all."""

WRITE_OUTPUT = """
import os, pathlib
os.umask(0o022)
for output in pathlib.Path("/app/storage/private/runs").glob("*/*/attempts/*/output"):
    (output / "outputs").mkdir()
    (output / "outputs" / "result.json").write_text("{}")
"""
"""What a validator's container does."""

UNMARK = f"""
import pathlib
for root in pathlib.Path("/app/storage").iterdir():
    (root / "{MARKER}").unlink(missing_ok=True)
"""
"""The sample comes with markers; a Validibot has none."""

READY = "SELECT id FROM django_celery_beat_periodictask WHERE last_run_at IS NOT NULL"
TASKS = "SELECT row_to_json(one) FROM django_celery_beat_periodictask AS one"


class StandIn(Project):
    """The application, beside which the stack is started."""

    def __init__(self, client: APIClient, compose: Sequence[str], folder: Path, image: str) -> None:
        self.folder = folder
        self._image = image
        self.secret = uuid.uuid4().hex
        settings = folder / ENV_FILES
        settings.mkdir(parents=True)
        file = folder / "docker-compose.production.yml"
        file.write_text(COMPOSE_FILE.read_text().replace("IMAGE", image))
        for path in CODE:
            shutil.copy(path, folder)
        (settings / ".django").write_text(
            "DEPLOYMENT_TARGET=self_hosted\nDATA_STORAGE_BACKEND=local\n"
            "DATA_STORAGE_ROOT=/app/storage/private\nVALIDATOR_RUNNER=docker\n"
            f"DJANGO_SECRET_KEY={self.secret}\n"
        )
        (settings / ".django").chmod(0o600)
        (settings / ".postgres").write_text(
            "POSTGRES_HOST=postgres\nPOSTGRES_PORT=5432\nPOSTGRES_DB=validibot\n"
            f"POSTGRES_USER={OWNER}\nPOSTGRES_PASSWORD={uuid.uuid4().hex}\n"
        )
        build = settings / ".build"
        build.write_text(f"VALIDATOR_CONTAINER_SOCKET={engine_socket()}\n")
        super().__init__(client, compose, PROJECT, folder, [file])
        self._command += ["--env-file", str(build)]

    def start(self) -> None:
        """Start all services, and wait until the data is there and Beat is at work."""
        self.compose("up", "--detach")
        deadline = time.monotonic() + LOADED_SECONDS
        while not self._works():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(POLL_SECONDS)
        assert self.containers().keys() == SERVICES
        self.python("web", OPEN_OUTPUT, user=str(DJANGO))
        run_once(
            self.client,
            self._image,
            ["python", "-c", WRITE_OUTPUT],
            user=f"{VALIDATOR}:{VALIDATOR}",
            binds=[f"{STORAGE}:/app/storage"],
        )
        self.python("web", UNMARK)

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Beat's tasks, by name."""
        rows = [json.loads(row) for row in self.sql(TASKS)]
        return {row["name"]: row for row in rows}

    def sql(self, statements: str) -> list[str]:
        """Run statements as the owner of the tables; return the rows of the last one."""
        psql = ["psql", "-v", "ON_ERROR_STOP=1", "-U", OWNER, "-d", "validibot", "-Atc"]
        return execute(self.client, self.container("postgres"), [*psql, statements]).splitlines()

    def _works(self) -> bool:
        try:
            return bool(self.sql(READY))
        except AssertionError:
            return False


def why_not(client: APIClient) -> str | None:
    """Why the stand-in may not be started on an engine; None when it may."""
    filters = {"label": f"com.docker.compose.project={PROJECT}"}
    volumes = client.volumes(filters={"name": STORAGE})["Volumes"]
    if client.containers(all=True, filters=filters) or volumes or client.networks(names=[NETWORK]):
        return "the container engine holds a Validibot"
    return None


@contextmanager
def validibot_on(
    client: APIClient, compose: Sequence[str], folder: Path, image: str
) -> Iterator[StandIn]:
    """Give a stand-in that is not up yet, and remove all of it at the end."""
    stand_in = StandIn(client, compose, folder, image)
    try:
        yield stand_in
    finally:
        with suppress(AssertionError, TimeoutExpired):
            stand_in.compose("down", "--volumes", "--timeout", "2")
