"""The run bundles that the stores hold, by listing them instead of asking rows.

A workspace that the application has left belongs to one of many purged runs, or to no row at all;
only the storage knows which ones exist. The bundles of one organization are listed at a time, and
their identifiers are kept packed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from maintenance.errors import UnsafeKey
from maintenance.report import BatchResult
from maintenance.storage.layout import Stores
from tasks.batching.table_scan import ScanCursor

MAX_ORGANIZATION = 2**63 - 1


@dataclass(frozen=True)
class HeldBundle:
    """A bundle in a store.

    Attributes:
        place: the index of its store and template in `Stores.bundles`.
        org_id: the organization that its path names.
        run_id: the run that its path names.
    """

    place: int
    org_id: int
    run_id: UUID


@dataclass(frozen=True)
class BundleCursor:
    """How far a listing has come.

    Attributes:
        folders: every organization's folder, as the index of its store and the organization.
        listed: how many of the folders have been listed.
        ids: the bundles of the folder listed last, and how many of them have been taken.
    """

    folders: tuple[tuple[int, int], ...]
    listed: int = 0
    ids: ScanCursor = field(default_factory=ScanCursor)

    @property
    def passed(self) -> bool:
        """Whether no bundle is left."""
        return self.ids.passed and self.listed == len(self.folders)


def next_bundles(
    stores: Stores, cursor: BundleCursor | None, rows: int, result: BatchResult
) -> tuple[list[HeldBundle], BundleCursor]:
    """Return the next bundles, and the cursor behind them.

    Names that are not those of an organization or a run are left alone.

    Args:
        stores: the stores.
        cursor: where the bundles begin; None for the first ones.
        rows: most bundles.
        result: a folder that cannot be listed fails in it.

    Raises:
        StorageError: the storage as a whole cannot be used.
    """
    cursor = cursor or BundleCursor(tuple(_folders(stores, result)))
    held: list[HeldBundle] = []
    while len(held) < rows and not cursor.passed:
        if cursor.ids.passed:
            ids = _bundles(stores, *cursor.folders[cursor.listed], result)
            cursor = replace(cursor, listed=cursor.listed + 1, ids=ids)
            continue
        taken, rest = cursor.ids.take(rows - len(held))
        place, org_id = cursor.folders[cursor.listed - 1]
        held += [HeldBundle(place, org_id, run_id) for run_id in taken]
        cursor = replace(cursor, ids=rest)
    return held, cursor


def prefix_of(stores: Stores, bundle: HeldBundle) -> str:
    """Return the prefix of a bundle in its store."""
    template = stores.bundles[bundle.place][1]
    return template.format(org_id=bundle.org_id, run_id=bundle.run_id)


def _folders(stores: Stores, result: BatchResult) -> Iterator[tuple[int, int]]:
    for place, (_, template) in enumerate(stores.bundles):
        for name in _names(stores, place, template.partition("/{org_id}")[0], result):
            if name.isascii() and name.isdecimal() and str(int(name)) == name:
                org_id = int(name)
                if org_id <= MAX_ORGANIZATION:
                    yield place, org_id


def _bundles(stores: Stores, place: int, org_id: int, result: BatchResult) -> ScanCursor:
    folder = stores.bundles[place][1].partition("/{run_id}")[0].format(org_id=org_id)
    names = _names(stores, place, folder, result)
    return ScanCursor.of(run_id for run_id in map(_run_id, names) if run_id is not None)


def _names(stores: Stores, place: int, prefix: str, result: BatchResult) -> Iterator[str]:
    try:
        yield from stores.bundles[place][0].folders(prefix)
    except UnsafeKey as error:
        result.fail(f"folder {prefix}", str(error))


def _run_id(name: str) -> UUID | None:
    try:
        run_id = UUID(name)
    except ValueError:
        return None
    return run_id if str(run_id) == name else None


def run_ids(bundles: Sequence[HeldBundle]) -> list[UUID]:
    """Return the runs that the paths of the bundles name."""
    return [one.run_id for one in bundles]
