"""The container engine that validators run on: Docker, or what speaks its API.

Every call has a time-out. Only containers that carry Validibot's label are listed, found and
removed; others are not seen, whatever identifier is asked for.
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
"""The engine also takes names and shorter prefixes, which may mean somebody else's container."""

DEFAULT_HOST = "unix:///var/run/docker.sock"
FIRST_API_VERSION = "1.24"
"""What the version is asked with; the question itself has none."""

POLL_SECONDS = 0.1
ABSENT_WORDS = "no such container"
"""Podman says so with the status 500 when somebody else was faster."""
IN_PROGRESS = "in progress"
"""In the engine's words when somebody else is removing the same container."""


@dataclass(frozen=True)
class ContainerRemoval:
    """What became of a container: removed, absent before, or not removed, and why."""

    state: Literal["removed", "absent", "failed"]
    error: ContainerError | None = None

    @property
    def cause(self) -> str:
        """Why it was not removed; empty when it is gone."""
        return str(self.error or "")


REMOVED, ABSENT = ContainerRemoval("removed"), ContainerRemoval("absent")


def why_no_engine(settings: Settings) -> str | None:
    """Return why there is no container engine, None when there should be one."""
    if settings.deployment_target in CONTAINER_TARGETS:
        return None
    allowed = " nor ".join(CONTAINER_TARGETS)
    return (
        "this deployment has no container engine: DEPLOYMENT_TARGET is"
        f" {settings.deployment_target or 'not set'}, neither {allowed}"
    )


@contextmanager
def open_engine(settings: Settings) -> Iterator["ContainerEngine"]:
    """Connect to the engine that the settings name, for as long as the block lasts.

    Raises:
        EngineNotConfigured: this deployment of Validibot has no container engine.
        EngineUnavailable: the engine does not answer, or says that it is busy or broken.
        ContainerError: the engine may not be used, or is none.
    """
    reason = why_no_engine(settings)
    if reason:
        raise EngineNotConfigured(reason)
    seconds = settings.docker_timeout_seconds
    host = settings.docker_host or DEFAULT_HOST

    endpoint = Endpoint(host, seconds)
    options = endpoint.ask(lambda: _options(settings, host))
    # In two steps: a client that finds the version out by itself leaves its socket open on failure.
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
    """An engine that answers. Its methods may be called from several threads."""

    def __init__(self, client: APIClient, endpoint: Endpoint) -> None:
        """Take a client of the endpoint."""
        self._client = client
        self._endpoint = endpoint

    def ping(self) -> None:
        """Make sure that the engine answers.

        Raises:
            EngineUnavailable: it does not.
        """
        self._endpoint.ask(self._client.ping)

    def managed(self) -> list[ManagedContainer]:
        """Return all of Validibot's containers, whatever their state, in one request.

        Raises:
            EngineUnavailable: the engine does not answer, or says that it is busy or broken.
        """
        filters = {"label": MANAGED_FILTER}

        def call() -> list[ManagedContainer]:
            return [from_list(one) for one in self._client.containers(all=True, filters=filters)]

        return self._endpoint.ask(call)

    def find(self, container_id: str) -> ManagedContainer | None:
        """Return one of Validibot's containers by its identifier (12 digits or more).

        None when there is none of it, or when it is not Validibot's.

        Raises:
            EngineUnavailable: the engine does not answer, or says that it is busy or broken.
        """
        found = self._inspect(container_id)
        return found if found and found.managed else None

    def remove(self, container_id: str, grace_seconds: float) -> ContainerRemoval:
        """Stop one of Validibot's containers, and remove it with its anonymous volumes.

        It is looked at again first. A container that is absent, vanishes meanwhile or is being
        removed by somebody else is success once it is gone.

        Args:
            container_id: its identifier, 12 digits or more.
            grace_seconds: how long it may take to end before it is killed; rounded up to seconds.
        """
        try:
            found = self._inspect(container_id)
            if found is None:
                return ABSENT
            if not found.managed:
                return ContainerRemoval(
                    "failed", ContainerError("is not managed by Validibot: left alone")
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
        # The engine prefers a container of that name to one whose identifier begins with it.
        return found if found.id.startswith(container_id) else None

    def _stop(self, container_id: str, grace_seconds: int) -> None:
        """Let it end. Whatever the engine has against that, the removal that follows kills it."""
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
                waited = (
                    f"was being removed by somebody else, for {self._endpoint.seconds:g} s so far"
                )
                return ContainerRemoval("failed", ContainerError(waited))
            time.sleep(POLL_SECONDS)
        return REMOVED


def _absent(error: APIError) -> bool:
    return isinstance(error, NotFound) or ABSENT_WORDS in str(error.explanation).lower()
