"""The tasks of process-purge-retries: discover, purge what is queued, count (SPEC 5.4)."""

from datetime import timedelta
from functools import partial
from typing import Any

from prefect import task
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    exists,
    func,
    literal,
    or_,
    select,
)

from maintenance.budget import SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import engine_for, transaction
from maintenance.report import BatchResult, Overdue
from maintenance.retention import ALERT_ATTEMPTS, INPUT_DAYS, STORE_PERMANENTLY
from maintenance.schema import purge_retries, runs, submissions
from maintenance.settings import settings
from tasks.batching.arrays import any_uuid
from tasks.batching.claims import preview_claim, preview_items, work_claim
from tasks.batching.keyset import KeysetCursor, KeysetOrder
from tasks.batching.overdue import count_overdue_rows
from tasks.batching.scans import by_page
from tasks.batching.scopes import ScopeWork, work_rows
from tasks.batching.slices import Slice, work_slice
from tasks.batching.table_scan import ScanCursor, by_table
from tasks.columns import QUEUE, SUBMISSIONS
from tasks.purge.options import PurgeOptions, batch_sizer, open_purge, page_sizer
from tasks.purge.repairs import purges_queued
from tasks.purge.retry_queue import queue_purges
from tasks.purge.submission_batch import KIND, submission_steps
from tasks.purge.submission_rows import SubmissionItem
from tasks.purge.submission_selection import no_active_run, unknown_policy
from tasks.retrying import COUNT_OPTIONS, SHORT_BACKOFF, TASK_OPTIONS

QUEUE_BY_NEXT_RETRY = KeysetOrder(QUEUE.next_retry_at, QUEUE.submission_id)

LAUNCH_GRACE = timedelta(hours=1)
"""A submission without a run is left alone for this time: its run may be about to start."""

OPTIONS = {**TASK_OPTIONS, "retry_delay_seconds": SHORT_BACKOFF}


@task(name="discover unqueued submissions", **OPTIONS)
def discover_unqueued(
    cutoff: Cutoff, cursor: ScanCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[ScanCursor]:
    """Queue the purge of content that must not be stored and is not queued.

    Selects submissions of the policy DO_NOT_STORE or an unknown one, not purged, without a row in
    the queue, with no active run, and with at least one run or at least an hour old.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    engine = engine_for(settings(), options.job)

    def queue(connection: Connection, scope: ColumnElement[bool]) -> BatchResult:
        found = select(SUBMISSIONS.id).where(scope, unqueued(cutoff))
        claim = found.with_for_update(of=submissions, skip_locked=True)
        return _queue(connection, cutoff, [row.id for row in connection.execute(claim)])

    work = ScopeWork(engine, KIND, SUBMISSIONS.id, queue)
    one_batch = by_table(engine, SUBMISSIONS.id, must_go() & ~is_queued(), partial(work_rows, work))
    return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


@task(name="purge queued submissions", **OPTIONS)
def purge_queued(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[KeysetCursor]:
    """Purge the submissions whose row in the queue is due, oldest first.

    Their policy is not read. Already purged: the row is deleted. An active run: the row is due
    again in five minutes. A failure: the next step of the backoff.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    selection = due_rows(cutoff).with_for_update(skip_locked=True)
    with open_purge(options) as purge:
        act = partial(work_claim, purge.engine, submission_steps(purge, None))
        one_batch = by_page(selection, QUEUE_BY_NEXT_RETRY, act)
        return work_slice(one_batch, cursor, share, batch_sizer(options))


@task(name="preview unqueued submissions", **OPTIONS)
def preview_unqueued(
    cutoff: Cutoff, cursor: ScanCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[ScanCursor]:
    """Count the submissions that a run would queue and then purge.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    with open_purge(options, dry_run=True) as purge:

        def preview(connection: Connection, scope: ColumnElement[bool]) -> BatchResult:
            found = _columns(SUBMISSIONS.created).where(scope, unqueued(cutoff))
            items: list[SubmissionItem] = []
            result = preview_items(connection, submission_steps(purge, None), found, items)
            if items:
                result += _queued(connection, [item.id for item in items])
                # The purge would delete the queued rows again, with their submissions' content.
                result.rows_by_table[purge_retries.name] += len(items)
            return result

        work = ScopeWork(purge.engine, KIND, SUBMISSIONS.id, preview, read_only=True)
        one_batch = by_table(
            purge.engine, SUBMISSIONS.id, must_go() & ~is_queued(), partial(work_rows, work)
        )
        return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


@task(name="preview queued submissions", **OPTIONS)
def preview_queued(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[KeysetCursor]:
    """Count what a run would do with the rows of the queue that are due.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    with open_purge(options, dry_run=True) as purge:
        act = partial(preview_claim, purge.engine, submission_steps(purge, None))
        one_batch = by_page(due_rows(cutoff), QUEUE_BY_NEXT_RETRY, act)
        return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


@task(name="count queued submissions", **{**COUNT_OPTIONS, "retry_delay_seconds": SHORT_BACKOFF})
def count_queued(cutoff: Cutoff, options: PurgeOptions) -> tuple[Overdue, int]:
    """Return the rows that are still due, and how many have failed often enough for an alert.

    Raises:
        DatabaseError: a statement failed.
    """
    alerts = select(func.count()).where(QUEUE.attempt_count >= ALERT_ATTEMPTS)
    with transaction(engine_for(settings(), options.job), read_only=True) as connection:
        failed_often = connection.execute(alerts).scalar_one()
    return overdue_queue(cutoff, options.job), failed_often


def overdue_queue(cutoff: Cutoff, job: str) -> Overdue:
    """Return the rows of the queue that are due.

    Raises:
        DatabaseError: the statement failed.
    """
    due = QUEUE.next_retry_at <= cutoff.as_of
    query = select(func.count(), func.min(QUEUE.next_retry_at)).where(due)
    return count_overdue_rows(query, cutoff, job)


def due_rows(cutoff: Cutoff) -> Select[Any]:
    """Return the queued submissions that are due at the cutoff, and those that this run queued.

    A row that this run has inserted (created since the run started, never tried) is purged in this
    run: otherwise a second run with the same cutoff would find work left.
    """
    made_by_this_run = and_(QUEUE.created_at >= cutoff.started_at, QUEUE.attempt_count == 0)
    latest = func.greatest(literal(cutoff.as_of), func.statement_timestamp())
    return (
        _columns(QUEUE.next_retry_at)
        .join(purge_retries, QUEUE.submission_id == SUBMISSIONS.id)
        .where(
            QUEUE.next_retry_at <= latest,
            or_(QUEUE.next_retry_at <= cutoff.as_of, made_by_this_run),
        )
        .order_by(QUEUE.next_retry_at, QUEUE.submission_id)
    )


def must_go() -> ColumnElement[bool]:
    """Return whether a submission has content that must not be stored."""
    return and_(
        SUBMISSIONS.content_purged_at.is_(None),
        SUBMISSIONS.retention_policy.not_in([*INPUT_DAYS, STORE_PERMANENTLY]),
    )


def is_queued() -> ColumnElement[bool]:
    """Return whether a submission is in the queue."""
    return exists(literal(1)).where(QUEUE.submission_id == SUBMISSIONS.id)


def unqueued(cutoff: Cutoff) -> ColumnElement[bool]:
    """Return whether a submission must not be stored and is not queued."""
    has_run = exists(literal(1)).where(runs.c.submission_id == SUBMISSIONS.id)
    return and_(
        must_go(),
        ~is_queued(),
        no_active_run(),
        or_(has_run, SUBMISSIONS.created <= cutoff.as_of - LAUNCH_GRACE),
    )


def _columns(moment: ColumnElement[Any]) -> Select[Any]:
    return select(
        SUBMISSIONS.id,
        moment.label("moment"),
        SUBMISSIONS.created,
        SUBMISSIONS.retention_policy,
        SUBMISSIONS.input_file,
        SUBMISSIONS.content_purged_at.is_not(None).label("purged"),
    )


def _queue(connection: Connection, cutoff: Cutoff, ids: list[Any]) -> BatchResult:
    """Queue the purge of locked submissions, after a re-check."""
    if not ids:
        return BatchResult()
    again = select(SUBMISSIONS.id).where(SUBMISSIONS.id == any_uuid(ids), unqueued(cutoff))
    fresh = [row.id for row in connection.execute(again)]
    result = _queued(connection, fresh)
    queue_purges(connection, fresh)
    return result


def _queued(connection: Connection, ids: list[Any]) -> BatchResult:
    """Return the result of queueing these submissions: how many, and their unknown policies."""
    result = purges_queued(len(ids))
    if not ids:
        return result
    odd = select(SUBMISSIONS.retention_policy, func.count()).where(
        SUBMISSIONS.id == any_uuid(ids), unknown_policy()
    )
    for policy, number in connection.execute(odd.group_by(SUBMISSIONS.retention_policy)):
        result.unknown_policies[policy] = number
    return result
