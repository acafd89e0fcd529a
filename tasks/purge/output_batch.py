"""Purging the outputs of claimed runs, one batch a transaction (SPEC 5.3).

The order inside the transaction is that of every purge: claim, re-check, delete the bytes, change
the rows, commit. A failure is reported; Validibot's tables have no place to record it, so the next
run selects the run again.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row

from maintenance.report import BatchResult
from maintenance.schema import runs
from maintenance.schema.versions import live_version
from maintenance.storage.layout import whole_bundle
from tasks.batching.claims import BatchSteps
from tasks.batching.row_changes import Changes, apply_changes, count_changes
from tasks.purge.files import delete_files, measure_files
from tasks.purge.options import Purge
from tasks.purge.output_rows import OutputItem, output_changes, read_outputs

KIND = "run"
"""What an item is called in the report."""


def output_steps(purge: Purge) -> BatchSteps[OutputItem]:
    """Return how the outputs of a batch of runs are purged.

    The claim is a SELECT of id, org_id and moment.
    """
    return BatchSteps(
        kind=KIND,
        key=runs.c.id,
        read=_read,
        act=partial(_purge, purge),
        preview=partial(_preview, purge),
        refused=lambda item: item.gone,
    )


def _read(row: Row[*tuple[Any, ...]]) -> OutputItem:
    return OutputItem(row.id, row.org_id, row.moment)


def _purge(purge: Purge, connection: Connection, items: Sequence[OutputItem]) -> BatchResult:
    result = BatchResult()
    read_outputs(connection, items)
    permit = purge.permit(connection)
    gone = delete_files(purge.stores, items, whole_bundle, result, permit)
    if gone:
        changes = _changes(purge, connection, gone)
        result.rows_by_table = apply_changes(connection, changes)
    result.done = len(gone)
    result.stamped = [item.id for item in gone]
    purge.stores.verify()
    return result


def _preview(purge: Purge, connection: Connection, items: Sequence[OutputItem]) -> BatchResult:
    result = BatchResult()
    read_outputs(connection, items)
    measure_files(purge.stores, items, whole_bundle, result)
    changes = _changes(purge, connection, items)
    result.rows_by_table = count_changes(connection, changes)
    return result


def _changes(purge: Purge, connection: Connection, items: Sequence[OutputItem]) -> Changes:
    version = live_version(connection)
    return output_changes(items, redact_traces=purge.redact_traces, version=version)
