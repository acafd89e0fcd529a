"""The interface of a storage backend: bulk deletes with one outcome per key."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from maintenance.storage.permit import Permit

Keep = Callable[[tuple[str, ...], bool], bool]
"""Whether an entry of a bundle is kept, given its components below the bundle and whether it is a
directory. A kept directory is kept with its contents; any other directory is entered."""


def keep_nothing(_parts: tuple[str, ...], _is_directory: bool) -> bool:
    """Delete the whole bundle."""
    return False


@dataclass(frozen=True, slots=True)
class Deletion:
    """The outcome of one key: the files and bytes deleted (none: it was absent), or an error."""

    files: int = 0
    bytes: int = 0
    error: str | None = None

    def __add__(self, other: "Deletion") -> "Deletion":
        """Add two outcomes; the first error is kept."""
        return Deletion(
            self.files + other.files, self.bytes + other.bytes, self.error or other.error
        )


ABSENT = Deletion()


@dataclass(frozen=True, slots=True)
class Tree:
    """All keys below a prefix, except those that are kept."""

    prefix: str
    keep: Keep = keep_nothing
    kept_uris: frozenset[str] = frozenset()
    """Addresses of objects (`s3://bucket/key`) that are kept; a local store ignores them."""


@dataclass(frozen=True, slots=True)
class Saved:
    """The outcome of saving one file: its key, or an error."""

    key: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Newest:
    """When the newest file of a tree was written: None when there is no tree; or an error.

    For a tree without files: when the directory was changed.
    """

    moment: datetime | None = None
    error: str | None = None


class Store(Protocol):
    """One root of stored files.

    A deletion without an error means that the bytes were verified absent; deleting what is absent
    is success. Saving without an error means that the bytes are durable. The failure of one key is
    in its own outcome and does not stop the others.
    """

    @property
    def place(self) -> str:
        """What the store is called in messages: where it is."""
        ...

    @property
    def absent(self) -> bool:
        """Whether its root did not exist when it was opened; only an optional root may."""
        ...

    def read_marker(self) -> bytes | None:
        """Return the content of the root's marker, None when there is none.

        The root is looked up afresh: it must be the one that was opened.

        Raises:
            StorageError: the root is gone or is another one, or the marker cannot be read.
        """
        ...

    def write_marker(self, content: bytes) -> None:
        """Write or replace the root's marker, durably.

        Raises:
            StorageError: it cannot be written.
        """
        ...

    def exist(self, keys: Sequence[str]) -> list[bool]:
        """Return for each key whether there is a file, or for a key with a slash at its end a tree.

        Raises:
            StorageError: it cannot be said of a key.
        """
        ...

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names of the directories, and links, that are directly below a prefix.

        Raises:
            UnsafeKey: the prefix cannot be listed; the text says why.
            StorageError: the storage as a whole cannot be used.
        """
        ...

    def newest(self, prefixes: Sequence[str]) -> list[Newest]:
        """Return for each tree when its newest file was written, older versions included."""
        ...

    def save_files(self, files: Sequence[tuple[str, bytes]]) -> list[Saved]:
        """Save files under these keys, or similar ones; one outcome per file, in their order.

        Nothing is overwritten, and no reader sees half a file. A key that holds exactly these bytes
        already is used as it is; when it holds others, a suffix is added to the key.
        """
        ...

    def remove_files(self, keys: Sequence[str], permit: Permit) -> list[Deletion]:
        """Delete single files; one outcome per key, in their order.

        Args:
            keys: the files.
            permit: checked right before each deletion, or each request that deletes several files.

        Raises:
            Exception: what the permit raised. Nothing is deleted any more, by any thread.
            StorageError: the storage as a whole cannot be used, for instance is read-only.
        """
        ...

    def remove_trees(self, trees: Sequence[Tree], permit: Permit) -> list[Deletion]:
        """Delete trees; one outcome per tree, in their order; see `remove_files`."""
        ...

    def measure_files(self, keys: Sequence[str]) -> list[Deletion]:
        """Return what `remove_files` would delete, without changing anything."""
        ...

    def measure_trees(self, trees: Sequence[Tree]) -> list[Deletion]:
        """Return what `remove_trees` would delete, without changing anything."""
        ...

    def close(self) -> None:
        """Close what the store holds open."""
        ...
