"""The interface of an object storage service; `BucketStore` builds a store on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from maintenance.storage.permit import Permit

REQUESTS = 32
"""Requests that are in flight at a time at most, unless the settings say otherwise."""


@dataclass(frozen=True, slots=True)
class Version:
    """One stored version of a key, or a delete marker, which has no bytes."""

    key: str
    id: str
    bytes: int
    marker: bool = False
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing; `following` leads to the next one, None after the last.

    `folders` are the beginnings, up to the delimiter, of the keys that are not listed one by one.
    """

    versions: Sequence[Version]
    following: str | None = None
    folders: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the service refused a request for one key, and whether that is transient."""

    cause: str
    passing: bool = False


class Bucket(Protocol):
    """One bucket of a service; used from several threads at once.

    Its methods raise TransientStorageError when the service, after the retries of its own client,
    gave no answer, or answered a whole request with an error that is transient.
    """

    url: str
    """The beginning of the address of each object, up to the slash before the key."""

    bulk: int
    """Versions that one call of `delete` takes at most."""

    def check(self, prefix: str) -> None:
        """Raise StorageError when the keys below a prefix cannot be listed."""
        ...

    def page(
        self, prefix: str, following: str | None, size: int, *, delimiter: str = ""
    ) -> Page | Refusal:
        """List versions whose keys begin with a prefix, in the order of their keys.

        With a delimiter, keys that hold it after the prefix are listed as folders.
        """
        ...

    def holds(self, key: str, content: bytes) -> bool | Refusal | None:
        """Return whether an object has exactly these bytes, None when there is no such object."""
        ...

    def read(self, key: str, size: int) -> bytes | Refusal | None:
        """Return the first bytes of an object, None when there is no such object."""
        ...

    def write(self, key: str, content: bytes, *, replace: bool = False) -> bool | Refusal:
        """Write an object if its key is free or may be replaced; return whether it was written."""
        ...

    def delete(self, versions: Sequence[Version], permit: Permit) -> list[Refusal | None]:
        """Delete versions for good; None for each that is gone, also if it was gone before.

        The permit is checked right before each request.
        """
        ...

    def close(self) -> None:
        """Close the connections."""
        ...
