"""Parameters that operators have set on deployments: `prefect deploy` empties them without a word.

So they are kept in a Prefect variable, by every apply and by the watch. When all parameters of a
deployment or of a schedule are gone, that is told until they are brought back or forgotten. Pauses
need no memory: `prefect deploy` keeps them, because prefect.yaml says of no schedule that it is on.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, VariableCreate, VariableUpdate
from prefect.client.schemas.responses import DeploymentResponse
from pydantic import BaseModel, ValidationError

from deployments.setup.changes import Changes
from deployments.setup.deployment import read_deployment

logger = logging.getLogger(__name__)

VARIABLE = "validibot_maintenance_remembered"
MAX_VARIABLE_VALUE_LENGTH = 5_000
"""Characters of JSON that the server takes; nine deployments need half of it."""


class RememberedSchedule(BaseModel):
    """A schedule, by its slug."""

    parameters: dict[str, Any] = {}


class RememberedDeployment(BaseModel):
    """A deployment as it was seen last before something of it was emptied."""

    id: UUID
    parameters: dict[str, Any] = {}
    schedules: dict[str, RememberedSchedule] = {}


class Memory(BaseModel):
    """The value of the variable."""

    deployments: dict[str, RememberedDeployment] = {}


class Remembered:
    """The variable, read once."""

    def __init__(self, client: SyncPrefectClient) -> None:
        """Read it; an invalid value counts as missing."""
        self._client = client
        found = client.read_variable_by_name(VARIABLE)
        self._stored = found.value if found else None
        try:
            self._memory = Memory.model_validate(self._stored or {})
        except ValidationError:
            self._memory = Memory()

    def undone(self, name: str, live: DeploymentResponse) -> list[str]:
        """Return what was emptied of a deployment since it was remembered, as texts."""
        before = self._before(name, live)
        return list(_emptied(before, state_of(live))) if before else []

    def bring_back(self, name: str, live: DeploymentResponse) -> None:
        """Set what was emptied of a deployment again."""
        before = self._before(name, live)
        if before is None:
            return
        if before.parameters and not live.parameters:
            update = DeploymentUpdate(parameters=before.parameters)
            self._client.update_deployment(live.id, update)
        for one in live.schedules:
            known = before.schedules.get(one.slug or "")
            if known is not None and known.parameters and not one.parameters:
                self._client.update_deployment_schedule(
                    live.id,
                    one.id,
                    active=one.active,
                    schedule=one.schedule,
                    parameters=known.parameters,
                )

    def keep(self, name: str, live: DeploymentResponse) -> None:
        """Remember a deployment as it is now."""
        self._memory.deployments[name] = state_of(live)

    def write(self) -> None:
        """Store the value, unless it has not changed or is too long for a variable."""
        value = self._memory.model_dump(mode="json", exclude_defaults=True)
        if value == self._stored:
            return
        if len(json.dumps(value)) > MAX_VARIABLE_VALUE_LENGTH:
            logger.warning("too many parameters of deployments to be remembered")
            return
        if self._stored is None:
            self._client.create_variable(VariableCreate(name=VARIABLE, value=value))
        else:
            self._client.update_variable(VariableUpdate(name=VARIABLE, value=value))
        self._stored = value

    def _before(self, name: str, live: DeploymentResponse) -> RememberedDeployment | None:
        """Return a deployment as it was remembered, None for another one of its name."""
        before = self._memory.deployments.get(name)
        return before if before is not None and before.id == live.id else None


def state_of(live: DeploymentResponse) -> RememberedDeployment:
    """Return what is remembered of a deployment."""
    schedules = {
        one.slug: RememberedSchedule(parameters=one.parameters)
        for one in live.schedules
        if one.slug
    }
    return RememberedDeployment(id=live.id, parameters=live.parameters or {}, schedules=schedules)


def tell_or_bring_back(
    client: SyncPrefectClient, names: list[str], changes: Changes, *, bring_back: bool, forget: bool
) -> None:
    """List the parameters that were emptied, or bring them back, and remember the present state.

    Args:
        client: of the Prefect server.
        names: the deployments.
        changes: where everything is listed. In a dry run nothing is changed or remembered.
        bring_back: set again what was undone.
        forget: take the present state for wanted.
    """
    memory = Remembered(client)
    for name in names:
        live = read_deployment(client, name)
        if live is None:
            continue
        undone = memory.undone(name, live)
        if undone and bring_back:
            for text in undone:
                changes.make(f"{name}: {text}: brought back", lambda: None)
            if not changes.dry_run:
                memory.bring_back(name, live)
                live = read_deployment(client, name) or live
        elif undone and not forget:
            changes.undone += [f"{name}: {text}" for text in undone]
            continue
        memory.keep(name, live)
    if not changes.dry_run:
        memory.write()


def remember(client: SyncPrefectClient, deployments: Mapping[str, DeploymentResponse]) -> None:
    """Remember deployments as they are, except those of which something was emptied.

    Args:
        client: of the Prefect server.
        deployments: by name, as they were read just now.
    """
    memory = Remembered(client)
    for name, live in deployments.items():
        if not memory.undone(name, live):
            memory.keep(name, live)
    memory.write()


def _emptied(before: RememberedDeployment, now: RememberedDeployment) -> Iterator[str]:
    if before.parameters and not now.parameters:
        yield f"parameters {_listed(before.parameters)} became (none)"
    for slug, one in before.schedules.items():
        other = now.schedules.get(slug)
        if one.parameters and other is not None and not other.parameters:
            yield f"parameters {_listed(one.parameters)} of schedule {slug} became (none)"


def _listed(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in parameters.items())
