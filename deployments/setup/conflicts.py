"""Conflicts of the three-way merge: edited by an operator, and the default has changed since.

The operator's edit is kept. Only a person can decide between the two, so every apply prints the
conflict and reports it to the server's automations as the event
`validibot-maintenance.approval-needed`, until the new default is taken, the two agree, or the
default is changed back. An edit whose default has not changed is no conflict.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.events import Event

from deployments.client import send_events
from flows.run.events import PREFIX

APPROVAL_NEEDED = f"{PREFIX}.approval-needed"


@dataclass(frozen=True)
class Conflict:
    """One conflict: what it is about, what is kept, and the new default."""

    what: str
    kept: str
    offered: str
    because: str

    def __str__(self) -> str:
        """Write it as one line."""
        return f"{self.what} stays {self.kept} (here {self.offered}): {self.because}"


@dataclass(frozen=True)
class DeploymentConflict:
    """A conflict with its deployment, and the command that takes the new default."""

    deployment: str
    """Its full name, as in `clear-sessions/default`."""
    conflict: Conflict
    command: str

    def __str__(self) -> str:
        """Write it as one line."""
        return f"{self.deployment}: {self.conflict}; needs your approval: {self.command}"

    def to_event(self) -> Event:
        """Return the event that reports it."""
        return Event(
            event=APPROVAL_NEEDED,
            resource={
                "prefect.resource.id": f"{PREFIX}.deployment.{self.deployment.partition('/')[0]}",
                "prefect.resource.name": self.deployment,
            },
            payload={
                "what": self.conflict.what,
                "kept": self.conflict.kept,
                "offered": self.conflict.offered,
                "command": self.command,
            },
        )


def report_conflicts(
    client: SyncPrefectClient, conflicts: Sequence[DeploymentConflict]
) -> str | None:
    """Emit an event for each conflict; return why that failed, None if it did not.

    A failure is no error: everything else was applied, and the next apply reports them again.
    """
    try:
        send_events(client, [conflict.to_event() for conflict in conflicts])
    except httpx.HTTPStatusError as error:
        return f"the server answered {error.response.status_code}"
    except (httpx.HTTPError, OSError) as error:
        return type(error).__name__
    return None
