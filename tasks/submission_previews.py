"""The dry run of purge-expired-submissions: the same selection, counted and not touched.

Every statement runs in a READ ONLY transaction. What the real run finds in two steps (repair,
then purge) is found here in one pass, by computing the deadline that the repair would write.
"""

from typing import Any

from prefect import task
from sqlalchemy import ColumnElement, Connection, Select, or_, select, true

from maintenance.budget import BatchSizer, SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import engine_for, transaction
from maintenance.report import BatchResult
from maintenance.retention import DO_NOT_STORE
from maintenance.settings import settings
from maintenance.storage.layout import open_stores
from tasks.deadlines import BlockCursor, repairs_of, undated_in, whole_table
from tasks.due_submissions import (
    SUBMISSIONS,
    DueCursor,
    in_backoff,
    new_deadline,
    overdue,
    page_edge,
    run_facts,
    unknown_policy,
    within,
)
from tasks.purge_queue import count_queueable
from tasks.purging import Purge, preview_purge
from tasks.retrying import TASK_OPTIONS
from tasks.slices import Batch, Slice, work_slice
from tasks.submission_rows import SubmissionItem
from tasks.submissions import PurgeOptions


@task(name="preview overdue submissions", **TASK_OPTIONS)
def preview_overdue(
    cutoff: Cutoff, cursor: DueCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[DueCursor]:
    """Say what a run would do with submissions whose recorded deadline has passed.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    current = settings()
    engine = engine_for(current, options.job)
    with open_stores(current) as stores:
        purge = Purge(engine, stores, cutoff.as_of, current.redact_input_traces)

        def one_batch(place: DueCursor | None, rows: int) -> Batch[DueCursor]:
            with transaction(engine, read_only=True) as connection:
                edge = page_edge(connection, cutoff, place, rows)
                scope = overdue(cutoff.as_of) & within(place, edge)
                result = _preview(purge, connection, scope, cutoff, options)
            return Batch(result, edge, exhausted=edge is None)

        size = options.batch_size
        return work_slice(one_batch, cursor, share, BatchSizer(size, current.batch_seconds, size))


@task(name="preview undated submissions", **TASK_OPTIONS)
def preview_undated(
    cutoff: Cutoff, cursor: BlockCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[BlockCursor]:
    """Say what a run would do with submissions of a finite policy without a deadline.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    current = settings()
    engine = engine_for(current, options.job)
    with open_stores(current) as stores:
        purge = Purge(engine, stores, cutoff.as_of, current.redact_input_traces)

        def one_batch(place: BlockCursor | None, _rows: int) -> Batch[BlockCursor]:
            with transaction(engine, read_only=True) as connection:
                scope, following = undated_in(place or whole_table(connection))
                result = _preview(purge, connection, scope, cutoff, options)
            return Batch(result, following, exhausted=following.block >= following.end)

        return work_slice(one_batch, cursor, share, BatchSizer(1, current.batch_seconds))


def _preview(
    purge: Purge,
    connection: Connection,
    scope: ColumnElement[bool],
    cutoff: Cutoff,
    options: PurgeOptions,
) -> BatchResult:
    rows = connection.execute(_candidates(scope, cutoff, options)).all()
    wrong = [row for row in rows if row.wrong]
    result = repairs_of(wrong)
    to_queue = [row.id for row in wrong if row.unknown or row.policy == DO_NOT_STORE]
    if to_queue:
        queued = count_queueable(connection, to_queue)
        result.repaired["purges queued"] = queued
        result.rows["submissions_purgeretry"] += queued
    due = [
        SubmissionItem(row.id, row.deadline, row.created, row.policy, row.input_file)
        for row in rows
        if row.deadline is not None and row.deadline <= cutoff.as_of and not row.waiting
    ]
    result += preview_purge(purge, connection, due)
    return result


def _candidates(scope: ColumnElement[bool], cutoff: Cutoff, options: PurgeOptions) -> Select[Any]:
    facts = run_facts()
    deadline = new_deadline(facts)
    wrong = or_(SUBMISSIONS.expires_at.is_distinct_from(deadline), unknown_policy())
    return (
        select(
            SUBMISSIONS.id,
            SUBMISSIONS.created,
            SUBMISSIONS.input_file,
            SUBMISSIONS.retention_policy.label("policy"),
            unknown_policy().label("unknown"),
            deadline.label("deadline"),
            wrong.label("wrong"),
            in_backoff(cutoff, retry_failed=options.retry_failed).label("waiting"),
        )
        .join(facts, true())
        .where(scope, ~facts.c.active)
    )
