"""Purging the outputs of claimed runs, one batch a transaction (SPEC 5.3).

The order inside the transaction is that of every purge: claim, look again, delete the bytes,
change the rows, commit. A failure is written into the report; nothing in Validibot's tables
remembers it, so the run is met again by the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Select

from maintenance.database import transaction
from maintenance.errors import LockTimeout, RowRefused
from maintenance.report import BatchResult
from maintenance.storage.layout import Stores, whole_bundle
from maintenance.storage.store import ABSENT, Deletion
from tasks.batching.arrays import any_uuid
from tasks.batching.bisection import Fault, bisect
from tasks.batching.row_changes import apply_changes, count_changes
from tasks.purge.output_rows import OutputItem, output_changes, read_outputs
from tasks.purge.output_selection import RUNS


@dataclass(frozen=True)
class OutputPurge:
    """How to purge: the database, where the files are, and whether input traces are redacted."""

    engine: Engine
    stores: Stores
    redact_traces: bool


def purge_batch(purge: OutputPurge, claim: Select[Any]) -> tuple[list[OutputItem], BatchResult]:
    """Purge the outputs of the runs that `claim` selects and locks.

    A database error that is a row's fault, or a row that the application has locked, splits the
    batch until it is one run's: that one fails or is deferred, the others are purged.

    Returns:
        The claimed runs in the order of the claim, and what became of them.

    Raises:
        DatabaseError: the database failed for a reason that is no row's fault.
    """
    items: list[OutputItem] = []
    try:
        with transaction(purge.engine) as connection:
            items = claimed(connection, claim)
            result = _purge_claimed(purge, connection, items)
    except (RowRefused, LockTimeout) as fault:
        if not items:
            raise
        return items, _isolate(purge, claim, items, fault)
    return items, result


def preview_purge(
    purge: OutputPurge, connection: Connection, items: Sequence[OutputItem]
) -> BatchResult:
    """Return what purging these runs' outputs would do, without changing anything."""
    result = _selected(items)
    if not items:
        return result
    read_outputs(connection, items)
    for removal in _files(purge.stores, items, measure=True).values():
        result.files += removal.files
        result.bytes += removal.bytes
    result.rows = count_changes(
        connection, output_changes(items, redact_traces=purge.redact_traces)
    )
    return result


def preview_page(purge: OutputPurge, page: Select[Any]) -> tuple[list[OutputItem], BatchResult]:
    """Return a page of runs, and what purging them would do, in a READ ONLY transaction."""
    with transaction(purge.engine, read_only=True) as connection:
        items = claimed(connection, page)
        return items, preview_purge(purge, connection, items)


def claimed(connection: Connection, claim: Select[Any]) -> list[OutputItem]:
    """Return the runs that a claim selects."""
    return [OutputItem(row.id, row.org_id, row.moment) for row in connection.execute(claim)]


def _purge_claimed(
    purge: OutputPurge, connection: Connection, items: Sequence[OutputItem]
) -> BatchResult:
    result = _selected(items)
    if not items:
        return result
    read_outputs(connection, items)
    removals = _files(purge.stores, items, measure=False)
    gone = []
    for item in items:
        removal = removals[item.id]
        result.files += removal.files
        result.bytes += removal.bytes
        if removal.error is None:
            gone.append(item)
        else:
            result.fail(f"run {item.id}", removal.error)
    if gone:
        result.rows = apply_changes(
            connection, output_changes(gone, redact_traces=purge.redact_traces)
        )
    result.done = len(gone)
    return result


def _files(stores: Stores, items: Sequence[OutputItem], *, measure: bool) -> dict[UUID, Deletion]:
    """Delete (or measure) the artifacts' files and the bundles; one outcome per run."""
    outcomes = {item.id: ABSENT for item in items}
    for store, template in stores.bundles:
        trees = [whole_bundle(template, item.bundle) for item in items]
        removals = store.measure_trees(trees) if measure else store.remove_trees(trees)
        for item, removal in zip(items, removals, strict=True):
            outcomes[item.id] += removal
    files = [(item.id, key) for item in items for key in item.artifact_keys]
    keys = [key for _, key in files]
    private = stores.private
    removals = private.measure_files(keys) if measure else private.remove_files(keys)
    for (item_id, _), removal in zip(files, removals, strict=True):
        outcomes[item_id] += removal
    return outcomes


def _isolate(
    purge: OutputPurge, claim: Select[Any], items: Sequence[OutputItem], fault: Fault
) -> BatchResult:
    def again(part: Sequence[OutputItem]) -> BatchResult:
        narrowed = claim.where(RUNS.id == any_uuid([item.id for item in part]))
        return purge_batch(purge, narrowed)[1]

    def alone(item: OutputItem, fault: Fault) -> BatchResult:
        result = _selected([item])
        if isinstance(fault, LockTimeout):
            result.deferred = 1
        else:
            result.fail(f"run {item.id}", str(fault))
        return result

    return bisect(items, fault, again, alone)


def _selected(items: Sequence[OutputItem]) -> BatchResult:
    return BatchResult.selecting([item.id.int for item in items])
