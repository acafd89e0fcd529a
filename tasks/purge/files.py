"""The files of purged items: those below their runs' bundles, and single files (SPEC 5.1, 10.3).

An item's own file is deleted last, and only when all others are gone: until then its row cannot be
stamped, and must not name a file that does not exist.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar
from uuid import UUID

from maintenance.report import BatchResult
from maintenance.storage.layout import Bundle, Stores
from maintenance.storage.permit import Permit
from maintenance.storage.store import Deletion, Tree


class WithFiles(Protocol):
    """An item with its files."""

    id: UUID
    error: str | None
    gone: str
    """What of its files has been deleted, for the case that its row is refused then."""

    @property
    def bundles(self) -> Sequence[Bundle]:
        """The bundles of its runs."""

    @property
    def file_keys(self) -> Sequence[str]:
        """The keys of its single files, below the private root; not of its own file."""


class WithOwnFile(WithFiles, Protocol):
    """An item that has a file of its own."""

    @property
    def own_key(self) -> str | None:
        """The key of its own file, below the private root; None without one."""


OTHERS_GONE = (
    "; the files of its runs and ports are gone already, its own file is kept; the row is not"
    " stamped, and a later run completes it once the database accepts the row"
)
ALL_GONE = (
    "; its files are gone already; the row is not stamped, and a later run completes it once the"
    " database accepts the row"
)

T = TypeVar("T", bound=WithFiles)
Own = TypeVar("Own", bound=WithOwnFile)
What = TypeVar("What")
TreeOf = Callable[[str, Bundle], Tree]
"""Returns the part of a bundle that is deleted, given the template of its prefix."""


def delete_files(
    stores: Stores, items: Sequence[T], tree_of: TreeOf, result: BatchResult, permit: Permit
) -> list[T]:
    """Delete the items' files but their own, and count them; return the items without an error.

    Raises:
        DatabaseError, GuardLost: the claim is lost, or the guard; nothing is deleted any more.
        StorageError: the storage as a whole cannot be used.
    """
    for store, template in stores.bundles:
        trees = partial(store.remove_trees, permit=permit)
        _each(store.place, _trees(items, tree_of, template), trees, result)
    delete_named_files(stores, items, result, permit)
    return _deleted(items)


def delete_named_files(
    stores: Stores, items: Sequence[WithFiles], result: BatchResult, permit: Permit
) -> None:
    """Delete the single files that rows of the items name, and count them."""
    remove = partial(stores.remove_files, permit=permit)
    _each(stores.private.place, _keys(items), remove, result)


def delete_own_files(
    stores: Stores, items: Sequence[Own], result: BatchResult, permit: Permit
) -> list[Own]:
    """Delete the items' own files, and count them; return the items without an error."""
    remove = partial(stores.remove_files, permit=permit)
    _each(stores.private.place, _own_keys(items), remove, result)
    free = [item for item in items if item.error is None]
    for item in free:
        item.gone = ALL_GONE
    return free


def measure_files(
    stores: Stores, items: Sequence[WithFiles], tree_of: TreeOf, result: BatchResult
) -> None:
    """Count what `delete_files` would delete, without changing anything."""
    for store, template in stores.bundles:
        _each(store.place, _trees(items, tree_of, template), store.measure_trees, result)
    measure_named_files(stores, items, result)


def measure_named_files(stores: Stores, items: Sequence[WithFiles], result: BatchResult) -> None:
    """Count what `delete_named_files` would delete, without changing anything."""
    _each(stores.private.place, _keys(items), stores.measure_files, result)


def measure_own_files(stores: Stores, items: Sequence[WithOwnFile], result: BatchResult) -> None:
    """Count what `delete_own_files` would delete, without changing anything."""
    _each(stores.private.place, _own_keys(items), stores.measure_files, result)


def _deleted(items: Sequence[T]) -> list[T]:
    """Return the items without an error, and note what of their files is gone."""
    free = [item for item in items if item.error is None]
    for item in free:
        named = bool(item.bundles or item.file_keys)
        own = getattr(item, "own_key", None)
        item.gone = (OTHERS_GONE if own else ALL_GONE) if named else ""
    return free


def _trees(
    items: Sequence[WithFiles], tree_of: TreeOf, template: str
) -> list[tuple[WithFiles, Tree]]:
    return [(item, tree_of(template, bundle)) for item in items for bundle in item.bundles]


def _keys(items: Sequence[WithFiles]) -> list[tuple[WithFiles, str]]:
    return [(item, key) for item in items for key in item.file_keys]


def _own_keys(items: Sequence[WithOwnFile]) -> list[tuple[WithFiles, str]]:
    return [(item, item.own_key) for item in items if item.own_key]


def _each(
    place: str,
    owned: Sequence[tuple[WithFiles, What]],
    act: Callable[[Sequence[What]], list[Deletion]],
    result: BatchResult,
) -> None:
    """Act on files, each with the item that it belongs to; an item keeps its first error.

    The error names the storage, too: the same key may exist in several roots (SPEC 10.15).
    """
    for (item, _), deletion in zip(owned, act([what for _, what in owned]), strict=True):
        result.files += deletion.files
        result.bytes += deletion.bytes
        if deletion.error is not None and item.error is None:
            item.error = f"{place}: {deletion.error}"
