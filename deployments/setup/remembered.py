"""What operators have set on deployments, remembered because `prefect deploy` undoes it.

`prefect deploy --all` empties the parameters of deployments and resumes their schedules, without a
word. So the state of each deployment is kept in a Prefect variable, by every apply and by the
watch. `prefect deploy` makes all schedules of a deployment anew: when none of the remembered ones
is left, it was at work, and what differs was undone by it.
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

    id: UUID
    active: bool
    parameters: dict[str, Any] = {}


class RememberedDeployment(BaseModel):
    """A deployment as it was seen last before `prefect deploy` replaced its schedules."""

    id: UUID
    paused: bool
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
        """Return what `prefect deploy` has undone of a deployment, as texts."""
        before = self._replaced(name, live)
        return list(_differences(before, state_of(live))) if before else []

    def bring_back(self, name: str, live: DeploymentResponse) -> None:
        """Set what was undone of a deployment again."""
        before = self._replaced(name, live)
        if before is None:
            return
        update = DeploymentUpdate(parameters=before.parameters, paused=before.paused)
        self._client.update_deployment(live.id, update)
        for one in live.schedules:
            known = before.schedules.get(one.slug or "")
            if known is not None:
                self._client.update_deployment_schedule(
                    live.id,
                    one.id,
                    active=known.active,
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

    def _replaced(self, name: str, live: DeploymentResponse) -> RememberedDeployment | None:
        """Return a deployment as it was, if all of its schedules were made anew since."""
        before = self._memory.deployments.get(name)
        if before is None or before.id != live.id:
            return None
        known = {one.id for one in before.schedules.values()}
        left = known & {one.id for one in live.schedules}
        return before if known and not left else None


def state_of(live: DeploymentResponse) -> RememberedDeployment:
    """Return what is remembered of a deployment."""
    schedules = {
        one.slug: RememberedSchedule(id=one.id, active=one.active, parameters=one.parameters)
        for one in live.schedules
        if one.slug
    }
    return RememberedDeployment(
        id=live.id, paused=live.paused, parameters=live.parameters or {}, schedules=schedules
    )


def tell_or_bring_back(
    client: SyncPrefectClient, names: list[str], changes: Changes, *, bring_back: bool, forget: bool
) -> None:
    """List what `prefect deploy` has undone, or bring it back, and remember the present state.

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
    """Remember deployments as they are, except those in which `prefect deploy` undid something.

    Args:
        client: of the Prefect server.
        deployments: by name, as they were read just now.
    """
    memory = Remembered(client)
    for name, live in deployments.items():
        if not memory.undone(name, live):
            memory.keep(name, live)
    memory.write()


def _differences(before: RememberedDeployment, now: RememberedDeployment) -> Iterator[str]:
    if before.parameters != now.parameters:
        yield f"parameters {_listed(before.parameters)} became {_listed(now.parameters)}"
    if before.paused and not now.paused:
        yield "the deployment was paused and was resumed"
    for slug, one in before.schedules.items():
        other = now.schedules.get(slug)
        if other is None:
            continue
        if other.active and not one.active:
            yield f"schedule {slug} was paused and was resumed"
        if one.parameters != other.parameters:
            yield (
                f"parameters {_listed(one.parameters)} of schedule {slug} became"
                f" {_listed(other.parameters)}"
            )


def _listed(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in parameters.items()) or "(none)"
