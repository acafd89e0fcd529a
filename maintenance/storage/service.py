"""What a service of object storage must offer to be a store; `BucketStore` does the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Version:
    """One stored version of a key, or a delete marker, which has no bytes."""

    key: str
    id: str
    bytes: int
    marker: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing; `following` leads to the next one, None after the last."""

    versions: Sequence[Version]
    following: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the service did not do what was asked of one key, and whether that passes by itself."""

    cause: str
    passing: bool = False


class Bucket(Protocol):
    """One bucket of a service; used from several threads at once.

    Its methods raise TransientStorageError when the service gave no answer, or for a whole call
    none but that it is busy or broken, after the retries of its own client.
    """

    url: str
    """What the address of each of its objects begins with, the slash before the key included."""

    bulk: int
    """Most versions of one call of `delete`."""

    def check(self, prefix: str) -> None:
        """Raise StorageError when the keys below a prefix cannot even be listed."""
        ...

    def page(self, prefix: str, following: str | None, size: int) -> Page | Refusal:
        """List versions whose keys begin with a prefix, in the order of their keys."""
        ...

    def holds(self, key: str, content: bytes) -> bool | Refusal | None:
        """Return whether an object has just these bytes, None when there is no such object."""
        ...

    def create(self, key: str, content: bytes) -> bool | Refusal:
        """Write an object unless its key is taken; return whether it was written."""
        ...

    def delete(self, versions: Sequence[Version]) -> list[Refusal | None]:
        """Delete versions for good; None for each that is gone, whoever deleted it."""
        ...

    def close(self) -> None:
        """Give back the connections."""
        ...
