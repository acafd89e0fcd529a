"""The files of purged items: what is below their runs' bundles, and single files (SPEC 5.1)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar
from uuid import UUID

from maintenance.report import BatchResult
from maintenance.storage.layout import Bundle, Stores
from maintenance.storage.store import ABSENT, Deletion, Tree


class WithFiles(Protocol):
    """An item with its files."""

    id: UUID
    error: str | None

    @property
    def bundles(self) -> Sequence[Bundle]:
        """The bundles of its runs."""

    @property
    def file_keys(self) -> Sequence[str]:
        """The keys of its single files, below the private root."""


T = TypeVar("T", bound=WithFiles)
TreeOf = Callable[[str, Bundle], Tree]
"""Says which part of a bundle goes, given the template of its prefix."""


def delete_files(
    stores: Stores, items: Sequence[T], tree_of: TreeOf, result: BatchResult
) -> list[T]:
    """Delete the items' files, and count them; return the items that have none any more.

    The others get the first `error`.
    """
    deletions = _each(stores, items, tree_of, measure=False)
    for item in items:
        item.error = deletions[item.id].error
    _count(deletions.values(), result)
    return [item for item in items if item.error is None]


def measure_files(
    stores: Stores, items: Sequence[WithFiles], tree_of: TreeOf, result: BatchResult
) -> None:
    """Count what `delete_files` would delete, without changing anything."""
    _count(_each(stores, items, tree_of, measure=True).values(), result)


def _count(deletions: Iterable[Deletion], result: BatchResult) -> None:
    for one in deletions:
        result.files += one.files
        result.bytes += one.bytes


def _each(
    stores: Stores, items: Sequence[WithFiles], tree_of: TreeOf, *, measure: bool
) -> dict[UUID, Deletion]:
    outcomes = {item.id: ABSENT for item in items}
    bundles = [(item.id, bundle) for item in items for bundle in item.bundles]
    for store, template in stores.bundles:
        trees = [tree_of(template, bundle) for _, bundle in bundles]
        found = store.measure_trees(trees) if measure else store.remove_trees(trees)
        for (item_id, _), deletion in zip(bundles, found, strict=True):
            outcomes[item_id] += deletion
    files = [(item.id, key) for item in items for key in item.file_keys]
    keys = [key for _, key in files]
    private = stores.private
    found = private.measure_files(keys) if measure else private.remove_files(keys)
    for (item_id, _), deletion in zip(files, found, strict=True):
        outcomes[item_id] += deletion
    return outcomes
