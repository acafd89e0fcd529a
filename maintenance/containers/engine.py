"""The container engine that validators run on: Docker, or another engine with its API.

Every request has a time-out. Only containers with Validibot's label are listed, found and removed,
whatever identifier is given.
"""

import math
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from docker import APIClient
from docker.errors import APIError, NotFound
from docker.utils import kwargs_from_env

from maintenance.containers.endpoint import Endpoint, refusal
from maintenance.containers.labels import MANAGED_FILTER
from maintenance.containers.managed import ManagedContainer, from_inspection, from_list
from maintenance.errors import ContainerError, EngineNotConfigured
from maintenance.settings import CONTAINER_TARGETS, Settings

IDENTIFIER = re.compile(r"[0-9a-f]{12,64}")
"""The engine also accepts names and shorter prefixes, which may match another container."""

DEFAULT_HOST = "unix:///var/run/docker.sock"
FIRST_API_VERSION = "1.24"
"""Version of the client that asks for the engine's version; that request is unversioned."""

POLL_SECONDS = 0.1
ABSENT_MESSAGE = "no such container"
"""Podman's message, with status 500, when the container has just been removed."""
IN_PROGRESS = "in progress"
"""Part of the engine's message when another client is removing the same container."""


@dataclass(frozen=True)
class ContainerRemoval:
    """The outcome of a removal: removed, absent before, or failed with an error."""

    state: Literal["removed", "absent", "failed"]
    error: ContainerError | None = None

    @property
    def cause(self) -> str:
        """Why it was not removed; empty unless it failed."""
        return str(self.error or "")


REMOVED, ABSENT = ContainerRemoval("removed"), ContainerRemoval("absent")


def why_no_engine(settings: Settings) -> str | None:
    """Return why no container engine is configured; None when one is."""
    if settings.deployment_target in CONTAINER_TARGETS:
        return None
    allowed = " nor ".join(CONTAINER_TARGETS)
    return (
        "this deployment has no container engine: DEPLOYMENT_TARGET is"
        f" {settings.deployment_target or 'not set'}, neither {allowed}"
    )


@contextmanager
def open_engine(settings: Settings) -> Iterator["ContainerEngine"]:
    """Connect to the container engine of the settings for the duration of the block.

    Raises:
        EngineNotConfigured: this deployment of Validibot has no container engine.
        EngineUnavailable: no answer in time, or a 5xx or 429.
        ContainerError: the engine may not be used, or is no engine.
    """
    reason = why_no_engine(settings)
    if reason:
        raise EngineNotConfigured(reason)
    seconds = settings.docker_timeout_seconds
    host = settings.docker_host or DEFAULT_HOST

    endpoint = Endpoint(host, seconds)
    options = endpoint.ask(lambda: _options(settings, host))
    # In two steps: a client that asks for the version itself leaves its socket open on failure.
    with closing(APIClient(version=FIRST_API_VERSION, **options)) as first:
        version = endpoint.ask(lambda: first.version(api_version=False)["ApiVersion"])
    with closing(endpoint.ask(lambda: APIClient(version=version, **options))) as client:
        yield ContainerEngine(client, endpoint)


def _options(settings: Settings, host: str) -> dict[str, Any]:
    environment = {"DOCKER_HOST": host}
    if settings.docker_cert_path:
        environment["DOCKER_CERT_PATH"] = str(settings.docker_cert_path)
    if settings.docker_tls_verify:
        environment["DOCKER_TLS_VERIFY"] = "1"
    return {**kwargs_from_env(environment), "timeout": settings.docker_timeout_seconds}


class ContainerEngine:
    """A connected container engine. Its methods may be called from several threads."""

    def __init__(self, client: APIClient, endpoint: Endpoint) -> None:
        """Use a client of the endpoint."""
        self._client = client
        self._endpoint = endpoint

    def ping(self) -> None:
        """Check that the engine answers.

        Raises:
            EngineUnavailable: it does not.
        """
        self._endpoint.ask(self._client.ping)

    def managed(self) -> list[ManagedContainer]:
        """Return all of Validibot's containers, whatever their state, in one request.

        Raises:
            EngineUnavailable: no answer in time, or a 5xx or 429.
        """
        filters = {"label": MANAGED_FILTER}

        def call() -> list[ManagedContainer]:
            return [from_list(one) for one in self._client.containers(all=True, filters=filters)]

        return self._endpoint.ask(call)

    def find(self, container_id: str) -> ManagedContainer | None:
        """Return one of Validibot's containers by its identifier (12 digits or more).

        None when it does not exist, or is not Validibot's.

        Raises:
            EngineUnavailable: no answer in time, or a 5xx or 429.
        """
        found = self._inspect(container_id)
        return found if found and found.managed else None

    def remove(self, container_id: str, grace_seconds: float) -> ContainerRemoval:
        """Stop one of Validibot's containers, and remove it with its anonymous volumes.

        It is inspected again first. A container that is absent, disappears meanwhile or is being
        removed by another client counts as success once it is gone.

        Args:
            container_id: its identifier, 12 digits or more.
            grace_seconds: time to exit before it is killed; rounded up to whole seconds.
        """
        try:
            found = self._inspect(container_id)
            if found is None:
                return ABSENT
            if not found.managed:
                return ContainerRemoval(
                    "failed", ContainerError("is not managed by Validibot: not removed")
                )
            self._stop(found.id, math.ceil(grace_seconds))
            return self._delete(found.id)
        except ContainerError as error:
            return ContainerRemoval("failed", error)

    def _inspect(self, container_id: str) -> ManagedContainer | None:
        if not IDENTIFIER.fullmatch(container_id):
            return None
        try:
            found = self._endpoint.ask_for_status(
                lambda: from_inspection(self._client.inspect_container(container_id))
            )
        except APIError as error:
            if _absent(error):
                return None
            raise refusal(error) from None
        # The engine prefers a container of that name to one whose identifier starts with it.
        return found if found.id.startswith(container_id) else None

    def _stop(self, container_id: str, grace_seconds: int) -> None:
        """Stop it. A refusal is ignored, because the removal that follows kills it."""
        try:
            self._endpoint.ask_for_status(
                lambda: self._client.stop(container_id, timeout=grace_seconds)
            )
        except APIError:
            return

    def _delete(self, container_id: str) -> ContainerRemoval:
        try:
            self._endpoint.ask_for_status(
                lambda: self._client.remove_container(container_id, v=True, force=True)
            )
        except APIError as error:
            if _absent(error):
                return REMOVED
            conflict = error.status_code == HTTPStatus.CONFLICT
            if conflict and IN_PROGRESS in str(error.explanation):
                return self._wait_until_gone(container_id)
            raise refusal(error) from None
        return REMOVED

    def _wait_until_gone(self, container_id: str) -> ContainerRemoval:
        deadline = time.monotonic() + self._endpoint.seconds
        while self._inspect(container_id) is not None:
            if time.monotonic() > deadline:
                waited = f"another client has been removing it for {self._endpoint.seconds:g} s"
                return ContainerRemoval("failed", ContainerError(waited))
            time.sleep(POLL_SECONDS)
        return REMOVED


def _absent(error: APIError) -> bool:
    return isinstance(error, NotFound) or ABSENT_MESSAGE in str(error.explanation).lower()
