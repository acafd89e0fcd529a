"""A real engine's containers: listed, found and removed, whatever state they are in (SPEC 7)."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from maintenance.containers.engine import IN_PROGRESS, ContainerEngine, open_engine
from tests.support.docker_engine import Containers, DockerEngine

pytestmark = pytest.mark.docker

STATES = ("running", "created", "paused", "exited", "restarting")
GRACE = 1


@pytest.fixture
def engine(docker_engine: DockerEngine) -> Iterator[ContainerEngine]:
    with open_engine(docker_engine.settings()) as opened:
        yield opened


def test_all_managed_containers_are_listed_whatever_their_state(
    containers: Containers, engine: ContainerEngine
) -> None:
    run_id = uuid4()
    before = datetime.now(UTC) - timedelta(seconds=2)
    made = {containers.make(state, run_id=run_id): state for state in STATES}
    containers.make(managed=None)
    containers.make(managed="false")
    listed = engine.managed()
    assert {one.id for one in listed} == set(made)
    for one in listed:
        # One that restarts is running in between.
        assert one.state == made[one.id] or made[one.id] == "restarting"
        assert one.run_id == run_id
        assert before < one.created < datetime.now(UTC) + timedelta(seconds=2)


def test_the_list_and_an_inspection_tell_the_same(
    containers: Containers, engine: ContainerEngine
) -> None:
    container_id = containers.make(timeout=5, run_id="not a run", name=f"name-{uuid4()}")
    (listed,) = engine.managed()
    found = engine.find(container_id)
    assert found is not None
    assert (found.id, found.name, found.labels) == (listed.id, listed.name, listed.labels)
    assert abs(found.created - listed.created) < timedelta(seconds=1)
    assert found.state == listed.state == "created"
    assert found.run_id is None


def test_a_container_is_found_by_its_identifier_and_not_by_its_name(
    containers: Containers, engine: ContainerEngine
) -> None:
    named = uuid4().hex
    container_id = containers.make(name=named)
    for known in (container_id, container_id[:12], container_id[:40]):
        found = engine.find(known)
        assert found is not None
        assert found.id == container_id
    for unknown in (named, named[:12], container_id[:11], container_id.upper(), "", "/", "..", "*"):
        assert engine.find(unknown) is None
        assert engine.remove(unknown, GRACE).state == "absent"
    assert containers.ids() == {container_id}


def test_a_container_without_the_label_is_neither_found_nor_removed(
    containers: Containers, engine: ContainerEngine
) -> None:
    others = {containers.make("running", managed=value) for value in (None, "false", "True", "")}
    for container_id in others:
        assert engine.find(container_id) is None
        removal = engine.remove(container_id, GRACE)
        assert (removal.state, removal.cause) == (
            "failed",
            "is not managed by Validibot: not removed",
        )
        assert containers.state(container_id) == "running"
    assert containers.ids() == others


@pytest.mark.parametrize("state", STATES)
def test_a_container_is_removed_with_its_anonymous_volumes(
    containers: Containers, engine: ContainerEngine, docker_engine: DockerEngine, state: str
) -> None:
    container_id = containers.make(state)
    volumes = containers.volumes()
    assert volumes
    assert engine.remove(container_id, GRACE).state == "removed"
    assert containers.ids() == set()
    left = docker_engine.client.volumes()["Volumes"] or []
    assert volumes.isdisjoint(volume["Name"] for volume in left)


def test_a_container_that_ignores_the_request_to_end_is_killed_after_the_grace(
    containers: Containers, engine: ContainerEngine
) -> None:
    container_id = containers.make("running", stop_signal="SIGTERM")
    started = time.monotonic()
    assert engine.remove(container_id, GRACE).state == "removed"
    assert GRACE <= time.monotonic() - started < GRACE + 10


def test_what_is_absent_is_success(containers: Containers, engine: ContainerEngine) -> None:
    container_id = containers.make()
    assert engine.remove(container_id, GRACE).state == "removed"
    assert engine.remove(container_id, GRACE).state == "absent"
    assert engine.find(container_id) is None


def test_removals_at_the_same_time_all_succeed(
    containers: Containers, engine: ContainerEngine, docker_engine: DockerEngine
) -> None:
    """Until the engine answers one of them that the removal is already in progress.

    Podman never does; there, a few times are enough.
    """
    messages: list[str] = []

    def note(answer, *_rest, **_options):  # type: ignore[no-untyped-def]
        if answer.status_code == 409:
            messages.append(answer.json()["message"])

    engine._client.hooks["response"].append(note)
    parts = docker_engine.client.version()["Components"]
    podman = any("Podman" in part["Name"] for part in parts)
    deadline = time.monotonic() + (10 if podman else 60)
    while not any(IN_PROGRESS in message for message in messages):
        if time.monotonic() > deadline:
            assert podman, messages
            break
        container_id = containers.make("running")
        with ThreadPoolExecutor(8) as pool:
            removals = list(pool.map(engine.remove, [container_id] * 8, [GRACE] * 8))
        assert {removal.state for removal in removals} <= {"removed", "absent"}
        assert containers.state(container_id) is None
