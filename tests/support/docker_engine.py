"""A real container engine for tests, and containers like those of Validibot's validators.

Their image is made here, of two programs of a few bytes, so that nothing is downloaded. It has no
network, because an engine may have been started without any.

The tests remove managed containers, so an engine that holds any which are not theirs is not used.
"""

import io
import json
import os
import struct
import tarfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from typing import Any

import pytest
from docker import APIClient
from docker.errors import DockerException, NotFound
from docker.utils import kwargs_from_env

from maintenance.containers.labels import (
    MANAGED,
    MANAGED_FILTER,
    MANAGED_VALUE,
    RUN_ID,
    STARTED_AT,
    TIMEOUT_SECONDS,
)
from maintenance.settings import Settings, load_settings

PING_SECONDS = 5
CALL_SECONDS = 60
STATE_SECONDS = 20
TESTS_LABEL = "org.validibot.maintenance.tests"
SESSION = uuid.uuid4().hex

HANG, EXIT = "/hang", "/exit"
"""Waits for ever and ignores SIGTERM, as the first process of a container; ends at once."""

PROGRAMS = {
    # pause() in a loop, and exit(0).
    "x86_64": (62, {HANG: "b8220000000f05ebf7", EXIT: "b83c00000031ff0f05"}),
    # ppoll() of nothing in a loop, and exit(0).
    "aarch64": (
        183,
        {
            HANG: "280980d2000080d2010080d2020080d2030080d2040080d2010000d4f9ffff17",
            EXIT: "a80b80d2000080d2010000d4",
        },
    ),
}
"""By the engine's architecture: its number in an executable, and the instructions."""

ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}
"""What Podman calls them."""

PODMANS = {"restarting": "stopped"}
"""What Podman calls the state between two starts."""

HEADERS = 64 + 56
ADDRESS = 0x400000


def executable(machine: int, code: bytes) -> bytes:
    """Return a static executable: two headers and the instructions."""
    size = HEADERS + len(code)
    magic = b"\x7fELF\x02\x01\x01"
    entry = ADDRESS + HEADERS
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", magic, 2, machine, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, ADDRESS, ADDRESS, size, size, 0x1000)
    return header + segment + code


def root_file_system(architecture: str) -> bytes:
    """Return the image's files as a tar archive."""
    if ALIASES.get(architecture, architecture) not in PROGRAMS:
        not_tested(f"the tests have no program for a container engine on {architecture}")
    machine, programs = PROGRAMS[ALIASES.get(architecture, architecture)]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, code in programs.items():
            content = executable(machine, bytes.fromhex(code))
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.mode, entry.size = 0o755, len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class DockerEngine:
    """An engine that answers, with the image of the tests."""

    def __init__(self, client: APIClient) -> None:
        self.client = client
        archive = root_file_system(client.info()["Architecture"])
        name = "validibot-maintenance-tests"
        answer = client.import_image_from_data(archive, repository=name, tag=SESSION)
        self.image = json.loads(answer.splitlines()[-1])["status"].strip()

    def settings(self, **changes: Any) -> Settings:
        """Settings that lead to this engine, and to no database."""
        return load_settings(**({"DATABASE_URL": "postgresql://nobody@h/d"} | TARGET | changes))

    def all(self, label: str) -> list[dict[str, Any]]:
        """Every container with a label, as the engine lists it."""
        found: list[dict[str, Any]] = self.client.containers(all=True, filters={"label": label})
        return found


TARGET = {"DEPLOYMENT_TARGET": "self_hosted"}


class Containers:
    """Containers of one test."""

    def __init__(self, engine: DockerEngine) -> None:
        self.engine = engine
        self.client = engine.client

    def make(
        self,
        state: str = "created",
        *,
        started: datetime | str | None = None,
        timeout: object = None,
        run_id: object = None,
        managed: str | None = MANAGED_VALUE,
        name: str | None = None,
        stop_signal: str = "SIGKILL",
    ) -> str:
        """Make a container in a state; return its identifier. Labels that are None are left out."""
        begun = started.isoformat() if isinstance(started, datetime) else started
        labels = {MANAGED: managed, STARTED_AT: begun, TIMEOUT_SECONDS: timeout, RUN_ID: run_id}
        again = {"Name": "always"} if state == "restarting" else None
        made = self.client.create_container(
            self.engine.image,
            [EXIT if state in ("exited", "restarting") else HANG],
            name=name,
            labels={TESTS_LABEL: SESSION}
            | {label: str(value) for label, value in labels.items() if value is not None},
            volumes=["/data"],
            stop_signal=stop_signal,
            host_config=self.client.create_host_config(network_mode="none", restart_policy=again),
        )
        container_id: str = made["Id"]
        if state != "created":
            self.client.start(container_id)
        if state == "paused":
            self.client.pause(container_id)
        self.wait_for(container_id, state)
        return container_id

    def wait_for(self, container_id: str, state: str) -> None:
        """Wait until a container is in a state."""
        deadline = time.monotonic() + STATE_SECONDS
        while (found := self.state(container_id)) not in (state, PODMANS.get(state)):
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def state(self, container_id: str) -> str | None:
        """The state of a container, None when it is gone."""
        try:
            found: str = self.client.inspect_container(container_id)["State"]["Status"]
        except NotFound:
            return None
        return found

    def ids(self) -> set[str]:
        """The containers that are there."""
        return {entry["Id"] for entry in self.engine.all(f"{TESTS_LABEL}={SESSION}")}

    def volumes(self) -> set[str]:
        """The volumes that the containers which are there have made."""
        found = self.engine.all(f"{TESTS_LABEL}={SESSION}")
        return {mount["Name"] for entry in found for mount in entry["Mounts"]}

    def remove_all(self) -> None:
        """Remove what the test has left."""
        for container_id in self.ids():
            with suppress(NotFound):
                self.client.remove_container(container_id, v=True, force=True)


def not_tested(reason: str) -> None:
    """Skip, for a reason that is stated; fail where an engine was promised."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def docker_engine_or_skip() -> Iterator[DockerEngine]:
    """Give the engine that DOCKER_HOST names, or the usual one; without it, skip."""
    try:
        found = APIClient(timeout=PING_SECONDS, **kwargs_from_env())
    except DockerException as error:
        not_tested(f"no container engine answers: {error}")
        raise
    with closing(found) as client:
        client.timeout = CALL_SECONDS
        engine = DockerEngine(client)
        try:
            yield engine
        finally:
            Containers(engine).remove_all()
            client.remove_image(engine.image, force=True)


@contextmanager
def containers_of_a_test(engine: DockerEngine) -> Iterator[Containers]:
    """Give containers to a test, and remove what it leaves."""
    others = [
        entry["Id"]
        for entry in engine.all(MANAGED_FILTER)
        if (entry["Labels"] or {}).get(TESTS_LABEL) != SESSION
    ]
    if others:
        not_tested("the container engine holds containers of a Validibot, which these tests remove")
    containers = Containers(engine)
    try:
        yield containers
    finally:
        containers.remove_all()
