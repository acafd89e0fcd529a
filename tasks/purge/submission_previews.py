"""The dry run of purge-expired-submissions: the same selection, counted and not touched.

Every statement runs in a READ ONLY transaction. What the real run finds in two steps (repair,
then purge) is found here in one pass, by computing the deadline that the repair would write.
"""

from typing import Any

from prefect import task
from sqlalchemy import ColumnElement, Connection, Select, or_, select, true

from maintenance.budget import SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import transaction
from maintenance.report import BatchResult
from maintenance.retention import DO_NOT_STORE
from maintenance.schema import submissions
from tasks.batching.keyset import BlockCursor, KeysetCursor
from tasks.batching.scans import by_block
from tasks.batching.slices import Batch, Slice, work_slice
from tasks.purge.options import PurgeOptions, block_sizer, page_sizer
from tasks.purge.retry_queue import count_queueable
from tasks.purge.submission_batch import Purge, open_purge, preview_purge
from tasks.purge.submission_deadlines import repairs_of
from tasks.purge.submission_rows import SubmissionItem
from tasks.purge.submission_selection import (
    SUBMISSIONS,
    SUBMISSIONS_BY_DEADLINE,
    in_backoff,
    new_deadline,
    overdue,
    run_facts,
    undated,
    unknown_policy,
)
from tasks.retrying import TASK_OPTIONS


@task(name="preview overdue submissions", **TASK_OPTIONS)
def preview_overdue(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[KeysetCursor]:
    """Say what a run would do with submissions whose recorded deadline has passed.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    with open_purge(options, cutoff.as_of) as purge:

        def one_batch(place: KeysetCursor | None, rows: int) -> Batch[KeysetCursor]:
            with transaction(purge.engine, read_only=True) as connection:
                scope = overdue(cutoff.as_of)
                edge = SUBMISSIONS_BY_DEADLINE.edge(connection, scope, place, rows)
                page = scope & SUBMISSIONS_BY_DEADLINE.within(place, edge)
                result = _preview(purge, connection, page, cutoff, options)
            return Batch(result, edge, exhausted=edge is None)

        return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


@task(name="preview undated submissions", **TASK_OPTIONS)
def preview_undated(
    cutoff: Cutoff, cursor: BlockCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[BlockCursor]:
    """Say what a run would do with submissions of a finite policy without a deadline.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    with open_purge(options, cutoff.as_of) as purge:

        def preview(connection: Connection, scope: ColumnElement[bool]) -> BatchResult:
            return _preview(purge, connection, scope & undated(), cutoff, options)

        one_batch = by_block(purge.engine, submissions.name, preview, read_only=True)
        return work_slice(one_batch, cursor, share, block_sizer())


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
