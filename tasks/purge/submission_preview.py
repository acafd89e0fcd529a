"""The dry run of purge-expired-submissions: the same selection, counted in READ ONLY transactions.

The real run repairs first, and purges then. Here both are counted in one pass, with the deadline
that the repair would write.
"""

from functools import partial
from typing import Any

from prefect import task
from sqlalchemy import ColumnElement, Connection, Select, select, true

from maintenance.budget import SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.report import BatchResult
from tasks.batching.claims import selected
from tasks.batching.keyset import KeysetCursor
from tasks.batching.scans import by_scope
from tasks.batching.scopes import ScopeWork, work_rows
from tasks.batching.slices import Slice, work_slice
from tasks.batching.table_scan import ScanCursor, by_table
from tasks.columns import SUBMISSIONS
from tasks.purge.options import Purge, PurgeOptions, open_purge, page_sizer
from tasks.purge.submission_batch import KIND, submission_steps
from tasks.purge.submission_deadlines import count_repairs
from tasks.purge.submission_rows import SubmissionItem
from tasks.purge.submission_selection import (
    SUBMISSIONS_BY_DEADLINE,
    in_backoff,
    new_deadline,
    overdue,
    run_facts,
    undated,
    unknown_policy,
    wrong_deadline,
)
from tasks.retrying import TASK_OPTIONS


@task(name="preview overdue submissions", **TASK_OPTIONS)
def preview_overdue(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[KeysetCursor]:
    """Count what a run would do with submissions whose recorded deadline has passed.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    with open_purge(options, dry_run=True) as purge:

        def preview(connection: Connection, scope: ColumnElement[bool]) -> BatchResult:
            return _preview(purge, connection, scope, cutoff, options)

        work = ScopeWork(purge.engine, KIND, SUBMISSIONS.id, preview, read_only=True)
        one_batch = by_scope(work, overdue(cutoff.as_of), SUBMISSIONS_BY_DEADLINE)
        return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


@task(name="preview undated submissions", **TASK_OPTIONS)
def preview_undated(
    cutoff: Cutoff, cursor: ScanCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[ScanCursor]:
    """Count what a run would do with submissions of a finite policy without a deadline.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    with open_purge(options, dry_run=True) as purge:

        def preview(connection: Connection, scope: ColumnElement[bool]) -> BatchResult:
            return _preview(purge, connection, scope & undated(), cutoff, options)

        work = ScopeWork(purge.engine, KIND, SUBMISSIONS.id, preview, read_only=True)
        one_batch = by_table(purge.engine, SUBMISSIONS.id, undated(), partial(work_rows, work))
        return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


def _preview(
    purge: Purge,
    connection: Connection,
    scope: ColumnElement[bool],
    cutoff: Cutoff,
    options: PurgeOptions,
) -> BatchResult:
    rows = connection.execute(_candidates(scope, cutoff, options)).all()
    result = count_repairs(connection, [row for row in rows if row.wrong])
    due = [
        SubmissionItem(row.id, row.deadline, row.created, row.policy, row.input_file)
        for row in rows
        if row.deadline is not None and row.deadline <= cutoff.as_of and not row.waiting
    ]
    result += selected(item.id for item in due)
    if due:
        result += submission_steps(purge, cutoff.as_of).preview(connection, due)
    return result


def _candidates(scope: ColumnElement[bool], cutoff: Cutoff, options: PurgeOptions) -> Select[Any]:
    facts = run_facts()
    deadline = new_deadline(facts)
    return (
        select(
            SUBMISSIONS.id,
            SUBMISSIONS.created,
            SUBMISSIONS.input_file,
            SUBMISSIONS.retention_policy.label("policy"),
            unknown_policy().label("unknown"),
            deadline.label("deadline"),
            wrong_deadline(deadline).label("wrong"),
            in_backoff(cutoff, retry_failed=options.retry_failed).label("waiting"),
        )
        .join(facts, true())
        .where(scope, ~facts.c.active)
    )
