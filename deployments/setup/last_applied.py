"""The last applied state, kept in a Prefect variable on the server.

It is the base of the three-way merge. It is written after the change that it records: after a crash
between the two, live and declared are equal, and the merge does not need it.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from pydantic import BaseModel, ValidationError

from deployments.setup.schedule_merge import Timing

VARIABLE = "validibot_maintenance_applied"


class AppliedDeployment(BaseModel):
    """The schedules that a deployment got, by slug. They do not hold for a new one of that name."""

    id: UUID
    schedules: dict[str, tuple[str, str]]


class Applied(BaseModel):
    """The value of the variable."""

    deployments: dict[str, AppliedDeployment] = {}
    job_template: str | None = None
    """The checksum of the work pool's job template."""
    examples: list[str] = []
    """The example automations that were created; they belong to the operator from then on."""


class LastApplied:
    """The variable, read once and written after each change."""

    def __init__(self, client: SyncPrefectClient) -> None:
        """Read it; an invalid value counts as missing."""
        self._client = client
        found = client.read_variable_by_name(VARIABLE)
        self._exists = found is not None
        try:
            self.applied = Applied.model_validate(found.value if found else {})
        except ValidationError:
            self.applied = Applied()

    def timings(self, deployment: str, identifier: UUID) -> dict[str, Timing] | None:
        """Return the schedules that a deployment got last, None if that is not known."""
        known = self.applied.deployments.get(deployment)
        if known is None or known.id != identifier:
            return None
        return {slug: Timing(*timing) for slug, timing in known.schedules.items()}

    def write_timings(
        self, deployment: str, identifier: UUID, timings: Mapping[str, Timing]
    ) -> None:
        """Store the schedules that a deployment has got."""
        schedules = {slug: (one.cron, one.timezone) for slug, one in timings.items()}
        self.applied.deployments[deployment] = AppliedDeployment(id=identifier, schedules=schedules)
        self.write()

    def write(self) -> None:
        """Store the value, unless it has not changed."""
        value: dict[str, Any] = self.applied.model_dump(mode="json")
        if self._exists:
            current = self._client.read_variable_by_name(VARIABLE)
            if current is not None and current.value == value:
                return
            self._client.update_variable(VariableUpdate(name=VARIABLE, value=value))
        else:
            self._client.create_variable(VariableCreate(name=VARIABLE, value=value))
            self._exists = True


def checksum(value: object) -> str:
    """Return a checksum of a JSON value that does not depend on the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
