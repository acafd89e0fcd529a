"""What the rows of purged runs still hold, and a purge of ours would have cleared (SPEC 5.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, select

from maintenance.report import BatchResult
from maintenance.schema import (
    artifacts,
    attempts,
    callback_receipts,
    continuations,
    findings,
    input_traces,
    run_summaries,
    runs,
    step_runs,
)
from maintenance.schema.base import Version
from maintenance.schema.versions import live_version
from maintenance.schema.vocabulary import TERMINAL_RUN_STATUSES
from maintenance.storage.layout import Bundle
from tasks.batching.arrays import any_uuid
from tasks.batching.row_changes import Changes, RowUpdate, apply_changes, count_changes
from tasks.purge.files import delete_named_files, measure_named_files
from tasks.purge.options import Purge
from tasks.purge.output_rows import RUN_OUTPUTS, OutputItem, read_outputs, related_changes

BY_STEP = {table: table.c.step_run_id for table in (attempts, input_traces)}
BY_RUN = {
    runs: runs.c.id,
    run_summaries: run_summaries.c.run_id,
    **{
        table: table.c.validation_run_id
        for table in (step_runs, findings, artifacts, callback_receipts, continuations)
    },
}
"""By which column a row belongs to a step or to a run."""


@dataclass
class RunItem(OutputItem):
    """A purged run. Its bundle is found by the listing of the store, not by its row."""

    @property
    def bundles(self) -> list[Bundle]:
        """None."""
        return []


def stamped_runs(as_of: datetime) -> ColumnElement[bool]:
    """Return whether a run's outputs were purged."""
    return and_(runs.c.output_purged_at <= as_of, runs.c.status.in_(TERMINAL_RUN_STATUSES))


def find_runs(
    connection: Connection, ids: Sequence[UUID], as_of: datetime, *, redact_traces: bool
) -> list[UUID]:
    """Return which of these runs are purged and have rows that still hold something."""
    scope = (runs.c.id == any_uuid(ids)) & stamped_runs(as_of)
    rows = connection.execute(select(runs.c.id, runs.c.org_id).where(scope))
    items = [RunItem(row.id, row.org_id, as_of) for row in rows]
    read_outputs(connection, items)
    version = live_version(connection)
    changes = run_changes(items, redact_traces=redact_traces, version=version)
    owners = {step: item.id for item in items for step in item.step_ids}
    found = owners_of(connection, changes, owners)
    return [item.id for item in items if item.id in found]


def owners_of(connection: Connection, changes: Changes, owners: dict[int, UUID]) -> set[UUID]:
    """Return the runs whose rows the changes would change.

    Args:
        connection: a transaction.
        changes: of tables that belong to runs or to their steps.
        owners: the run of each step.
    """
    found: set[UUID] = set()
    for change in changes:
        by_step = BY_STEP.get(change.table)
        key = BY_RUN[change.table] if by_step is None else by_step
        values = connection.execute(select(key).where(change.condition).distinct()).scalars()
        found.update(values if by_step is None else (owners[step] for step in values))
    return found


def run_changes(items: Sequence[OutputItem], *, redact_traces: bool, version: Version) -> Changes:
    """Return the changes that clear what the rows of purged runs hold; `modified` stays."""
    ids = any_uuid([item.id for item in items])
    own = RowUpdate(runs, runs.c.id == ids, RUN_OUTPUTS)
    return [*related_changes(items, redact_traces=redact_traces, version=version), own]


def clear_runs(purge: Purge, connection: Connection, items: Sequence[RunItem]) -> BatchResult:
    """Delete the files of claimed runs' artifacts, then clear their rows."""
    result = BatchResult()
    read_outputs(connection, items)
    delete_named_files(purge.stores, items, result, purge.permit(connection))
    gone = [item for item in items if item.error is None]
    if gone:
        version = live_version(connection)
        changes = run_changes(gone, redact_traces=purge.redact_traces, version=version)
        result.rows_by_table = apply_changes(connection, changes)
    result.done = len(gone)
    purge.stores.verify()
    return result


def preview_runs(purge: Purge, connection: Connection, items: Sequence[RunItem]) -> BatchResult:
    """Return what `clear_runs` would do."""
    result = BatchResult()
    read_outputs(connection, items)
    measure_named_files(purge.stores, items, result)
    version = live_version(connection)
    changes = run_changes(items, redact_traces=purge.redact_traces, version=version)
    result.rows_by_table = count_changes(connection, changes)
    return result
