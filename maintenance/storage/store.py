"""The interface of a storage backend: bulk deletes with one outcome per key."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

Keep = Callable[[tuple[str, ...], bool], bool]
"""Says whether an entry below a bundle is kept, given its components below the bundle and whether
it is a directory. A kept directory is kept with all that is in it; another one is entered."""


def keep_nothing(_parts: tuple[str, ...], _is_directory: bool) -> bool:
    """Remove everything below the bundle, and the bundle."""
    return False


@dataclass(frozen=True, slots=True)
class Deletion:
    """What became of one key: so many files deleted (none: it was absent), or why it was not."""

    files: int = 0
    bytes: int = 0
    error: str | None = None

    def __add__(self, other: "Deletion") -> "Deletion":
        """Add up what was deleted; the first error stays."""
        return Deletion(
            self.files + other.files, self.bytes + other.bytes, self.error or other.error
        )


ABSENT = Deletion()


@dataclass(frozen=True, slots=True)
class Tree:
    """All keys below a prefix, but for those that are kept."""

    prefix: str
    keep: Keep = keep_nothing
    kept_uris: frozenset[str] = frozenset()
    """Objects that stay, by their addresses (`s3://bucket/key`); a local store has none."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of one file that was to be saved: the key that it has, or why it has none."""

    key: str = ""
    error: str | None = None


class Store(Protocol):
    """One root of stored files.

    After a removal without an error, the bytes were verified absent. Deleting what is absent is
    success. After a saving without an error, the bytes are there for good. One key's failure is in
    its own outcome and does not stop the others.
    """

    def save_files(self, files: Sequence[tuple[str, bytes]]) -> list[Saved]:
        """Save files under these keys, or near them; one outcome per file, in their order.

        Nothing is ever overwritten, and no half of a file is ever seen under its key. A key that
        holds these very bytes is used as it is; one that holds others gets a suffix.
        """
        ...

    def remove_files(self, keys: Sequence[str]) -> list[Deletion]:
        """Delete single files; one outcome per key, in their order."""
        ...

    def remove_trees(self, trees: Sequence[Tree]) -> list[Deletion]:
        """Delete trees; one outcome per tree, in their order."""
        ...

    def measure_files(self, keys: Sequence[str]) -> list[Deletion]:
        """Say what `remove_files` would delete, without changing anything."""
        ...

    def measure_trees(self, trees: Sequence[Tree]) -> list[Deletion]:
        """Say what `remove_trees` would delete, without changing anything."""
        ...

    def close(self) -> None:
        """Give back what the store holds open."""
        ...
