"""A stand-in for a self-hosted Validibot: its real names, users and modes, with the sample's data.

It has Validibot's project name, so an engine on which there is a Validibot is not used.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import TimeoutExpired

from docker import APIClient

from tests.stack.engine import execute, run_once
from tests.stack.project import Project
from tests.stack.stand_ins import ROOT

PROJECT = "validibot"
STORAGE, NETWORK = "validibot_validibot_storage", "validibot_validibot"
COMPOSE_FILE = Path(__file__).with_name("validibot.compose.yaml")
ENV_FILES = ".envs/.production/.self-hosted"
SERVICES = {"web", "worker", "scheduler", "postgres", "redis"}

DJANGO, VALIDATOR = 101, 1_000
"""The user and group of Validibot, a system user, and those of its validators' containers."""

LOADED_SECONDS = 120
POLL_SECONDS = 0.5
ROLE = "validibot_maintenance"

ENTRY_POINT = f"""
import os, signal, subprocess, sys, time
if os.path.ismount("/app/storage"):
    os.chown("/app/storage", {DJANGO}, {DJANGO})
os.setgroups([])
os.setgid({DJANGO})
os.setuid({DJANGO})
os.umask(0o022)
while subprocess.run(sys.argv[1:]).returncode:
    time.sleep(1)
signal.pause()
"""
"""Like the entry point of Validibot's image: what is done as root, and then all else as django.
The command is tried until the database answers."""

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


REDELIVERED = """
UPDATE validations_validationruncontinuation SET state = 'COMPLETED', completed_at = now()
WHERE state NOT IN ('COMPLETED', 'NOT_REQUIRED')
"""
"""What becomes of the continuations when Validibot's own command redelivers them."""


class StandIn(Project):
    """The application, beside which the stack is started."""

    def __init__(self, client: APIClient, compose: Sequence[str], folder: Path, image: str) -> None:
        super().__init__(client, compose, PROJECT, folder, [COMPOSE_FILE])
        self._image = image
        self._password = uuid.uuid4().hex
        self.env_file = folder / ENV_FILES / ".django"
        self.env_file.parent.mkdir(parents=True)
        password, self.secret = uuid.uuid4().hex, uuid.uuid4().hex
        self.env_file.write_text(
            "DEPLOYMENT_TARGET=self_hosted\nDATA_STORAGE_BACKEND=local\n"
            "DATA_STORAGE_ROOT=/app/storage/private\nVALIDATOR_RUNNER=docker\n"
            f"DJANGO_SECRET_KEY={self.secret}\n"
        )
        self.env_file.chmod(0o600)
        self.env_file.with_name(".postgres").write_text(
            "POSTGRES_HOST=postgres\nPOSTGRES_PORT=5432\nPOSTGRES_DB=validibot\n"
            f"POSTGRES_USER=validibot\nPOSTGRES_PASSWORD={password}\n"
        )

    @property
    def database_url(self) -> str:
        """The address of the database for the jobs, as seen from the network."""
        return f"postgresql://{ROLE}:{self._password}@postgres/validibot"

    def compose(self, *arguments: str, **variables: str) -> str:
        """Run a command of Compose with the stand-in's images."""
        # Compose reads $ in values of variables as it is, so the program needs no quoting.
        own = {"STAND_IN_IMAGE": self._image, "ENTRY_POINT": ENTRY_POINT}
        return super().compose(*arguments, **own, **variables)

    def start(self) -> None:
        """Start all services, and wait until the data is there and the role of the jobs is made."""
        self.compose("up", "--detach")
        deadline = time.monotonic() + LOADED_SECONDS
        while "Loaded " not in (said := self.compose("logs", "web")):
            assert time.monotonic() < deadline, said[-3000:]
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
        self.sql(REDELIVERED)
        self.sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{self._password}'")
        self.sql((ROOT / "docs" / "database-role.sql").read_text())

    def sql(self, statements: str) -> list[str]:
        """Run statements as the owner of the tables; return the rows of the last one."""
        psql = ["psql", "-v", "ON_ERROR_STOP=1", "-U", "validibot", "-d", "validibot", "-Atc"]
        return execute(self.client, self.container("postgres"), [*psql, statements]).splitlines()


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
