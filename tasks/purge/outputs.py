"""The tasks of purge-expired-outputs: repair, purge, preview, count the backlog (SPEC 5.3)."""

from functools import partial

from prefect import task
from sqlalchemy import ColumnElement, Connection, false, func, select

from maintenance.budget import SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import engine_for, transaction
from maintenance.report import BatchResult, Overdue
from maintenance.schema import runs
from maintenance.settings import settings
from tasks.batching.claims import preview_claim, preview_items, work_claim
from tasks.batching.keyset import BlockCursor, KeysetCursor, whole_table
from tasks.batching.overdue import count_overdue_rows
from tasks.batching.scans import by_block, by_page
from tasks.batching.scopes import ScopeWork
from tasks.batching.slices import Batch, Slice, work_slice
from tasks.columns import RUNS
from tasks.purge.options import PurgeOptions, batch_sizer, block_sizer, open_purge, page_sizer
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
from tasks.retrying import TASK_OPTIONS


@task(name="repair output deadlines", **TASK_OPTIONS)
def repair_output_deadlines(
    _cutoff: Cutoff, cursor: BlockCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[BlockCursor]:
    """Write the missing deadlines of ended runs, and correct those of their submissions.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    engine = engine_for(settings(), options.job)
    work = ScopeWork(engine, KIND, RUNS.id, repair_outputs)
    return work_slice(by_block(work), cursor, share, block_sizer())


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
    cutoff: Cutoff, cursor: BlockCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[BlockCursor]:
    """Purge outputs that must not be stored, and of which no deadline has passed (SPEC 5.3).

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    with open_purge(options) as purge:

        def one_batch(cursor: BlockCursor | None, _rows: int) -> Batch[BlockCursor]:
            if cursor is None:
                with transaction(purge.engine, read_only=True) as connection:
                    cursor = whole_table(connection, runs.name)
            scope = cursor.scope(runs.name) & undated(cutoff)
            _, result = work_claim(purge.engine, output_steps(purge), claimable(scope))
            return Batch(result, cursor.next(), exhausted=cursor.next().passed)

        return work_slice(one_batch, cursor, share, block_sizer())


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
    cutoff: Cutoff, cursor: BlockCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[BlockCursor]:
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
        return work_slice(by_block(work), cursor, share, block_sizer())


@task(name="count overdue outputs", **TASK_OPTIONS)
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
