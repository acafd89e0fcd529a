"""Containers beside the stack: they see the engine's own loopback and processes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from docker import APIClient

ONCE_SECONDS = 60


@contextmanager
def running(
    client: APIClient,
    image: str,
    command: Sequence[str],
    *,
    user: str = "0",
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[str]:
    """Run a container on the engine's host network for as long as the block lasts."""
    host = client.create_host_config(network_mode="host", **options)
    made = client.create_container(
        image, list(command), user=user, environment=dict(environment or {}), host_config=host
    )
    identifier: str = made["Id"]
    try:
        client.start(identifier)
        yield identifier
    finally:
        client.remove_container(identifier, v=True, force=True)


def run_once(
    client: APIClient, image: str, command: Sequence[str], expected: int = 0, **options: Any
) -> str:
    """Run a command to its end, and return what it printed; it must end with this status."""
    with running(client, image, command, **options) as identifier:
        status = client.wait(identifier, timeout=ONCE_SECONDS)["StatusCode"]
        said = bytes(client.logs(identifier)).decode()
    assert status == expected, said
    return said


def execute(client: APIClient, container: str, command: Sequence[str], user: str = "") -> str:
    """Run a command in a container that is running, and return what it printed."""
    made = client.exec_create(container, list(command), user=user)
    said = bytes(client.exec_start(made["Id"])).decode()
    status = client.exec_inspect(made["Id"])["ExitCode"]
    assert status == 0, said
    return said.strip()
