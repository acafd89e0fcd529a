"""A container as described by the engine's list or inspection."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from maintenance.containers.labels import MANAGED, MANAGED_VALUE, RUN_ID, as_uuid


@dataclass(frozen=True)
class ManagedContainer:
    """One container.

    Attributes:
        id: the full identifier, 64 hexadecimal digits.
        name: for messages; containers are addressed by id only.
        labels: all of them.
        created: its time of creation, by the engine's clock.
        state: running, exited, created, paused, restarting, removing or dead.
    """

    id: str
    name: str
    labels: Mapping[str, str]
    created: datetime
    state: str

    @property
    def managed(self) -> bool:
        """Whether it has the label of Validibot's containers."""
        return self.labels.get(MANAGED) == MANAGED_VALUE

    @property
    def run_id(self) -> UUID | None:
        """The run that its label names; None without a label, or when it is not a UUID."""
        return as_uuid(self.labels.get(RUN_ID, ""))

    @property
    def item(self) -> str:
        """Its name in reports."""
        return f"container {self.id[:12]} ({self.name})"


def from_list(entry: Mapping[str, Any]) -> ManagedContainer:
    """Read an entry of the engine's list."""
    names = entry.get("Names") or [""]
    return ManagedContainer(
        id=entry["Id"],
        name=names[0].lstrip("/"),
        labels=_labels(entry),
        created=_time(entry["Created"]),
        state=entry["State"],
    )


def from_inspection(entry: Mapping[str, Any]) -> ManagedContainer:
    """Read the engine's answer about one container."""
    return ManagedContainer(
        id=entry["Id"],
        name=entry["Name"].lstrip("/"),
        labels=_labels(entry["Config"]),
        created=datetime.fromisoformat(entry["Created"]).astimezone(UTC),
        state=entry["State"]["Status"],
    )


def _labels(entry: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the labels; one without a value counts as missing."""
    labels = entry.get("Labels") or {}
    return {name: str(value) for name, value in labels.items() if value is not None}


def _time(seconds: float) -> datetime:
    """Return a Unix time; one that Python cannot hold never makes a container old."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return datetime.max.replace(tzinfo=UTC)
