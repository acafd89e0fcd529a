"""Deleting the trees of residue under a live claim (SPEC 10.2).

The bundle of a purged run or submission is deleted under the lock of its row. A bundle without a
run row has none to lock: the claim is that there is still no such row, and it is asked for anew
right before each group of deletions.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection

from maintenance.errors import MaintenanceError
from maintenance.guard import check_held
from maintenance.storage.permit import Permit
from maintenance.storage.store import Deletion
from tasks.purge.options import Purge
from tasks.residue.bundle_rows import Residue, existing_runs

GROUP = 50
"""Bundles without a run row that are deleted together: few enough to look each up again."""

Outcomes = list[tuple[Residue, Deletion]]


class RunAppeared(MaintenanceError):
    """Runs have got their row while their bundles were being deleted."""

    def __init__(self, ids: set[UUID]) -> None:
        """Keep which runs."""
        super().__init__(f"{len(ids)} runs have got a row")
        self.ids = ids


def delete_trees(purge: Purge, residue: Sequence[Residue], permit: Permit) -> Outcomes:
    """Delete the trees store by store; return them with their outcomes.

    Raises:
        Exception: the permit was withdrawn.
        StorageError: the storage as a whole cannot be used.
    """
    outcomes: Outcomes = []
    for place, (store, _) in enumerate(purge.stores.bundles):
        here = [one for one in residue if one.bundle.place == place]
        if here:
            deletions = store.remove_trees([one.tree for one in here], permit)
            outcomes += zip(here, deletions, strict=True)
    return outcomes


def measure_trees(purge: Purge, residue: Sequence[Residue]) -> Outcomes:
    """Return what `delete_trees` would delete."""
    outcomes: Outcomes = []
    for place, (store, _) in enumerate(purge.stores.bundles):
        here = [one for one in residue if one.bundle.place == place]
        if here:
            sizes = store.measure_trees([one.tree for one in here])
            outcomes += zip(here, sizes, strict=True)
    return outcomes


def delete_without_run(
    purge: Purge, connection: Connection, residue: Sequence[Residue]
) -> Outcomes:
    """Delete bundles without a run row, each only while there is still none.

    A bundle whose run has got a row is left, from that moment on, and is not among the outcomes.

    Raises:
        DatabaseError, GuardLost: the database cannot be asked any more.
        StorageError: the storage as a whole cannot be used.
    """
    outcomes: Outcomes = []
    for start in range(0, len(residue), GROUP):
        group = list(residue[start : start + GROUP])
        while group:
            try:
                outcomes += delete_trees(purge, group, _permit(purge, connection, group))
                break
            except RunAppeared as appeared:
                group = [one for one in group if one.bundle.run_id not in appeared.ids]
    return outcomes


def _permit(purge: Purge, connection: Connection, group: Sequence[Residue]) -> Permit:
    ids = [one.bundle.run_id for one in group]

    def ask() -> None:
        found = existing_runs(connection, ids)
        check_held(purge.job)
        if found:
            raise RunAppeared(found)

    return Permit(ask)
