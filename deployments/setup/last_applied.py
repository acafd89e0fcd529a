"""What was applied last, kept in a Prefect variable on the server.

It is the third side when an apply asks whether an operator edited something. It is written after
the change that it records: a crash between the two leaves what is live equal to what is declared,
which needs no record to be understood.
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
    """The schedules that a deployment got, by slug. A new deployment of the name knows nothing."""

    id: UUID
    schedules: dict[str, tuple[str, str]]


class Applied(BaseModel):
    """Everything that is remembered."""

    deployments: dict[str, AppliedDeployment] = {}
    job_template: str | None = None
    """The checksum of the work pool's."""
    examples: list[str] = []
    """The automations that were made once, and are the operator's since."""


class Record:
    """The variable, read once and written after each change."""

    def __init__(self, client: SyncPrefectClient) -> None:
        """Read it; what cannot be understood counts as not there."""
        self._client = client
        found = client.read_variable_by_name(VARIABLE)
        self._exists = found is not None
        try:
            self.applied = Applied.model_validate(found.value if found else {})
        except ValidationError:
            self.applied = Applied()

    def timings(self, deployment: str, identifier: UUID) -> dict[str, Timing] | None:
        """Return what a deployment got last, None when nothing is known of it."""
        known = self.applied.deployments.get(deployment)
        if known is None or known.id != identifier:
            return None
        return {slug: Timing(*timing) for slug, timing in known.schedules.items()}

    def write_timings(
        self, deployment: str, identifier: UUID, timings: Mapping[str, Timing]
    ) -> None:
        """Remember what a deployment has got."""
        schedules = {slug: (one.cron, one.timezone) for slug, one in timings.items()}
        self.applied.deployments[deployment] = AppliedDeployment(id=identifier, schedules=schedules)
        self.write()

    def write(self) -> None:
        """Store it, unless nothing has changed."""
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
    """Return a checksum of what JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
