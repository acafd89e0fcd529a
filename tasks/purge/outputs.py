"""The tasks of purge-expired-outputs: repair, purge, preview, count the backlog (SPEC 5.3)."""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from prefect import task
from sqlalchemy import ColumnElement, Connection, false, func, select

from maintenance.budget import SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import engine_for
from maintenance.report import BatchResult, Overdue
from maintenance.settings import settings
from tasks.batching.arrays import any_uuid
from tasks.batching.claims import preview_claim, preview_items, work_claim
from tasks.batching.keyset import KeysetCursor
from tasks.batching.overdue import count_overdue_rows
from tasks.batching.scans import by_page
from tasks.batching.scopes import ScopeWork, work_rows
from tasks.batching.slices import Batch, Slice, work_slice
from tasks.batching.table_scan import ScanCursor, act_on_next, by_table
from tasks.columns import RUNS
from tasks.purge.options import PurgeOptions, batch_sizer, open_purge, page_sizer
from tasks.purge.output_batch import KIND, output_steps
from tasks.purge.output_deadlines import preview_repairs, repair_outputs
from tasks.purge.output_selection import (
    OUTPUTS_BY_DEADLINE,
    after_repair_due,
    claimable,
    dated,
    due_outputs,
    undated,
    without_deadline,
)
from tasks.retrying import COUNT_OPTIONS, TASK_OPTIONS


@task(name="repair output deadlines", **TASK_OPTIONS)
def repair_output_deadlines(
    cutoff: Cutoff, cursor: ScanCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[ScanCursor]:
    """Write the missing deadlines of ended runs, and correct those of their submissions.

    The pass over the table also selects the runs of `purge_undated_outputs` (SPEC 5.3).

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    engine = engine_for(settings(), options.job)
    work = ScopeWork(engine, KIND, RUNS.id, repair_outputs)
    candidates = without_deadline() | undated(cutoff)
    one_batch = by_table(engine, RUNS.id, candidates, partial(work_rows, work))
    return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


@task(name="purge outputs", **TASK_OPTIONS)
def purge_outputs(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[KeysetCursor]:
    """Purge the outputs of runs past their deadline, oldest first.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    selection = claimable(dated(cutoff)).order_by(RUNS.output_expires_at, RUNS.id)
    with open_purge(options) as purge:
        act = partial(work_claim, purge.engine, output_steps(purge))
        one_batch = by_page(selection, OUTPUTS_BY_DEADLINE, act)
        return work_slice(one_batch, cursor, share, batch_sizer(options))


@task(name="purge undated outputs", **TASK_OPTIONS)
def purge_undated_outputs(
    cutoff: Cutoff, cursor: ScanCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[ScanCursor]:
    """Purge outputs that must not be stored, and of which no deadline has passed (SPEC 5.3).

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    start = cursor or options.candidates.again()
    if start.passed:
        return Slice(start, exhausted=True)
    with open_purge(options) as purge:

        def act(ids: Sequence[UUID]) -> BatchResult:
            scope = (RUNS.id == any_uuid(ids)) & undated(cutoff)
            return work_claim(purge.engine, output_steps(purge), claimable(scope))[1]

        def one_batch(cursor: ScanCursor | None, rows: int) -> Batch[ScanCursor]:
            return act_on_next(cursor or start, rows, act)

        return work_slice(one_batch, start, share, batch_sizer(options))


@task(name="preview outputs", **TASK_OPTIONS)
def preview_outputs(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[KeysetCursor]:
    """Count what a run would do with outputs whose deadline has passed.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    selection = due_outputs(dated(cutoff)).order_by(RUNS.output_expires_at, RUNS.id)
    with open_purge(options, dry_run=True) as purge:
        act = partial(preview_claim, purge.engine, output_steps(purge))
        one_batch = by_page(selection, OUTPUTS_BY_DEADLINE, act)
        return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


@task(name="preview undated outputs", **TASK_OPTIONS)
def preview_undated_outputs(
    cutoff: Cutoff, cursor: ScanCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[ScanCursor]:
    """Count what a run would repair, and what it would purge after that.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    with open_purge(options, dry_run=True) as purge:

        def preview(connection: Connection, scope: ColumnElement[bool]) -> BatchResult:
            result = preview_repairs(connection, scope)
            repaired = without_deadline() & after_repair_due(cutoff)
            # Dated outputs are counted by `preview_outputs`. Without a deadline `dated` is NULL.
            elsewhere = func.coalesce(dated(cutoff), false())
            due = scope & (undated(cutoff) | repaired) & ~elsewhere
            result += preview_items(connection, output_steps(purge), due_outputs(due), [])
            return result

        work = ScopeWork(purge.engine, KIND, RUNS.id, preview, read_only=True)
        candidates = without_deadline() | undated(cutoff)
        one_batch = by_table(purge.engine, RUNS.id, candidates, partial(work_rows, work))
        return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


@task(name="count overdue outputs", **COUNT_OPTIONS)
def count_overdue_outputs(cutoff: Cutoff, options: PurgeOptions) -> Overdue:
    """Count what `overdue_outputs` counts, as a step of a run."""
    return overdue_outputs(cutoff, options.job)


def overdue_outputs(cutoff: Cutoff, job: str) -> Overdue:
    """Return the runs that are past their deadline and still have outputs.

    Raises:
        DatabaseError: the statement failed.
    """
    query = select(func.count(), func.min(RUNS.output_expires_at)).where(dated(cutoff))
    return count_overdue_rows(query, cutoff, job)
