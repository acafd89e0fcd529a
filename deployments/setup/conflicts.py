"""What waits for a person's word: a new default that is kept out by an operator's edit.

An operator has edited something, and the default that it once had has changed since. Which of the
two it is to be nobody else can say, so it is printed, and told to the server's automations as the
event `validibot-maintenance.approval-needed`: by every apply, until the new default is taken, the
two agree, or the default is again as it was. An edit of what has kept its default needs no word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.events import Event

from flows.run.events import PREFIX

APPROVAL_NEEDED = f"{PREFIX}.approval-needed"


@dataclass(frozen=True)
class Conflict:
    """Something that an operator edited and whose default has changed since."""

    what: str
    kept: str
    offered: str
    because: str

    def __str__(self) -> str:
        """Write it as one line."""
        return f"{self.what} stays {self.kept} (here {self.offered}): {self.because}"


@dataclass(frozen=True)
class Approval:
    """A conflict, of which deployment it is, and the command that takes the new default."""

    deployment: str
    """Its full name, as in `clear-sessions/default`."""
    conflict: Conflict
    command: str

    def __str__(self) -> str:
        """Write it as one line."""
        return f"{self.deployment}: {self.conflict}; needs your approval: {self.command}"

    def to_event(self) -> Event:
        """Return the event that tells it."""
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


def tell(client: SyncPrefectClient, approvals: Sequence[Approval]) -> str | None:
    """Emit one event for each; return why that could not be done, None when it was.

    It is no error: all else was applied, and the next apply tells it again.
    """
    if not approvals:
        return None
    events = [one.to_event().model_dump(mode="json") for one in approvals]
    try:
        client.request("POST", "/events", json=events)
    except httpx.HTTPStatusError as error:
        return f"the server answered {error.response.status_code}"
    except (httpx.HTTPError, OSError) as error:
        return type(error).__name__
    return None
