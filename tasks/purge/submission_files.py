"""The files of submissions that are purged: copied inputs, uploaded file, port files (SPEC 5.1)."""

from collections.abc import Callable, Sequence
from uuid import UUID

from maintenance.storage.layout import Stores, copied_inputs
from maintenance.storage.store import ABSENT, Deletion, Store, Tree
from tasks.purge.submission_rows import SubmissionItem


def remove_files(stores: Stores, items: Sequence[SubmissionItem]) -> dict[UUID, Deletion]:
    """Delete the files of each submission; the outcome holds the first error, if any."""
    return _each(stores, items, lambda s: s.remove_files, lambda s: s.remove_trees)


def measure_files(stores: Stores, items: Sequence[SubmissionItem]) -> dict[UUID, Deletion]:
    """Say what `remove_files` would delete, without changing anything."""
    return _each(stores, items, lambda s: s.measure_files, lambda s: s.measure_trees)


def _each(
    stores: Stores,
    items: Sequence[SubmissionItem],
    on_files: Callable[[Store], Callable[[Sequence[str]], list[Deletion]]],
    on_trees: Callable[[Store], Callable[[Sequence[Tree]], list[Deletion]]],
) -> dict[UUID, Deletion]:
    outcomes = {item.id: ABSENT for item in items}
    bundles = [(item.id, bundle) for item in items for bundle in item.bundles]
    for store, template in stores.bundles:
        trees = [copied_inputs(template, bundle) for _, bundle in bundles]
        for (item_id, _), removal in zip(bundles, on_trees(store)(trees), strict=True):
            outcomes[item_id] += removal
    files = [(item.id, key) for item in items for key in item.file_keys]
    keys = [key for _, key in files]
    for (item_id, _), removal in zip(files, on_files(stores.private)(keys), strict=True):
        outcomes[item_id] += removal
    return outcomes
