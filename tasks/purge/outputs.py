"""The tasks of purge-expired-outputs: repair, purge, preview, count the backlog (SPEC 5.3)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from prefect import task
from sqlalchemy import ColumnElement, Connection, false, func, select

from maintenance.budget import SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import engine_for, transaction
from maintenance.report import BatchResult, Overdue
from maintenance.schema import runs
from maintenance.settings import settings
from maintenance.storage.layout import open_stores
from tasks.batching.keyset import BlockCursor, KeysetCursor, whole_table
from tasks.batching.overdue import count_overdue_rows
from tasks.batching.scans import by_block, by_page
from tasks.batching.slices import Batch, Slice, work_slice
from tasks.purge.options import PurgeOptions, batch_sizer, block_sizer, page_sizer
from tasks.purge.output_batch import (
    OutputPurge,
    claimed,
    preview_page,
    preview_purge,
    purge_batch,
)
from tasks.purge.output_deadlines import preview_repairs, repair_outputs
from tasks.purge.output_selection import (
    OUTPUTS_BY_DEADLINE,
    RUNS,
    after_repair_due,
    claimable,
    dated,
    due_outputs,
    undated,
    without_deadline,
)
from tasks.retrying import TASK_OPTIONS

OnBlocks = Callable[[Connection, ColumnElement[bool]], BatchResult]


@task(name="repair output deadlines", **TASK_OPTIONS)
def repair_output_deadlines(
    _cutoff: Cutoff, cursor: BlockCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[BlockCursor]:
    """Compute the deadlines that ended runs lack, and those of their submissions.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    engine = engine_for(settings(), options.job)

    return work_slice(by_block(engine, runs.name, repair_outputs), cursor, share, block_sizer())


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
    with _purge(options) as purge:
        one_batch = by_page(selection, OUTPUTS_BY_DEADLINE, partial(purge_batch, purge))
        return work_slice(one_batch, cursor, share, batch_sizer(options))


@task(name="purge undated outputs", **TASK_OPTIONS)
def purge_undated_outputs(
    cutoff: Cutoff, cursor: BlockCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[BlockCursor]:
    """Purge outputs that must not be stored though no deadline says so (SPEC 5.3).

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    with _purge(options) as purge:

        def one_batch(place: BlockCursor | None, _rows: int) -> Batch[BlockCursor]:
            with transaction(purge.engine, read_only=True) as connection:
                here = place or whole_table(connection, runs.name)
            scope = here.scope(runs.name) & undated(cutoff)
            _, result = purge_batch(purge, claimable(scope))
            return Batch(result, here.next(), exhausted=here.next().passed)

        return work_slice(one_batch, cursor, share, block_sizer())


@task(name="preview outputs", **TASK_OPTIONS)
def preview_outputs(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[KeysetCursor]:
    """Say what a run would do with outputs whose deadline has passed, in READ ONLY transactions.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    selection = due_outputs(dated(cutoff)).order_by(RUNS.output_expires_at, RUNS.id)
    with _purge(options) as purge:
        one_batch = by_page(selection, OUTPUTS_BY_DEADLINE, partial(preview_page, purge))
        return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


@task(name="preview undated outputs", **TASK_OPTIONS)
def preview_undated_outputs(
    cutoff: Cutoff, cursor: BlockCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[BlockCursor]:
    """Say what a run would repair, and then purge of that, in READ ONLY transactions.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    with _purge(options) as purge:

        def preview(connection: Connection, scope: ColumnElement[bool]) -> BatchResult:
            result = preview_repairs(connection, scope)
            repaired = without_deadline() & after_repair_due(cutoff)
            # What is dated is counted by the other preview; without a deadline that is NULL.
            elsewhere = func.coalesce(dated(cutoff), false())
            due = scope & (undated(cutoff) | repaired) & ~elsewhere
            result += preview_purge(purge, connection, claimed(connection, due_outputs(due)))
            return result

        one_batch = by_block(purge.engine, runs.name, preview, read_only=True)
        return work_slice(one_batch, cursor, share, block_sizer())


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


@contextmanager
def _purge(options: PurgeOptions) -> Iterator[OutputPurge]:
    current = settings()
    with open_stores(current) as stores:
        yield OutputPurge(engine_for(current, options.job), stores, current.redact_input_traces)
