"""The tasks of purge-expired-submissions that act: repair deadlines, purge, count the backlog."""

from functools import partial

from prefect import task
from sqlalchemy import ColumnElement, Connection, func, select

from maintenance.budget import SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import engine_for
from maintenance.report import BatchResult, Overdue
from maintenance.settings import settings
from tasks.batching.claims import work_claim
from tasks.batching.keyset import KeysetCursor
from tasks.batching.overdue import count_overdue_rows
from tasks.batching.scans import by_page, by_scope
from tasks.batching.scopes import ScopeWork, work_rows
from tasks.batching.slices import Slice, work_slice
from tasks.batching.table_scan import ScanCursor, by_table
from tasks.columns import SUBMISSIONS
from tasks.purge.options import PurgeOptions, batch_sizer, open_purge, page_sizer
from tasks.purge.submission_batch import KIND, submission_steps
from tasks.purge.submission_deadlines import repair_deadlines
from tasks.purge.submission_selection import (
    SUBMISSIONS_BY_DEADLINE,
    claimable,
    finite_policy,
    no_active_run,
    overdue,
    undated,
)
from tasks.retrying import COUNT_OPTIONS, TASK_OPTIONS

PAGE_ROWS = 5_000
"""Overdue submissions that one repair statement reads; it changes few of them."""


@task(name="repair overdue deadlines", **TASK_OPTIONS)
def repair_overdue(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[KeysetCursor]:
    """Recompute the deadlines of submissions with `expires_at <= as_of` (SPEC 5.2).

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    engine = engine_for(settings(), options.job)
    scope = overdue(cutoff.as_of)
    work = ScopeWork(engine, KIND, SUBMISSIONS.id, repair_deadlines)
    one_batch = by_scope(work, scope, SUBMISSIONS_BY_DEADLINE)
    return work_slice(one_batch, cursor, share, page_sizer(PAGE_ROWS))


@task(name="repair missing deadlines", **TASK_OPTIONS)
def repair_undated(
    _cutoff: Cutoff, cursor: ScanCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[ScanCursor]:
    """Write the deadlines of submissions of a finite policy that have none.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    engine = engine_for(settings(), options.job)

    def repair(connection: Connection, scope: ColumnElement[bool]) -> BatchResult:
        return repair_deadlines(connection, scope & undated())

    work = ScopeWork(engine, KIND, SUBMISSIONS.id, repair)
    one_batch = by_table(engine, SUBMISSIONS.id, undated(), partial(work_rows, work))
    return work_slice(one_batch, cursor, share, page_sizer(PAGE_ROWS))


@task(name="purge submissions", **TASK_OPTIONS)
def purge_submissions(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: PurgeOptions
) -> Slice[KeysetCursor]:
    """Purge submissions past their retention, oldest deadline first (SPEC 5.2).

    Selects `expires_at <= as_of`, not purged, finite policy, no active run, not waiting for the
    next attempt after a failure; deletes their files and clears their content.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: a storage root is missing.
    """
    selection = claimable(cutoff, retry_failed=options.retry_failed)
    with open_purge(options) as purge:
        act = partial(work_claim, purge.engine, submission_steps(purge, cutoff.as_of))
        one_batch = by_page(selection, SUBMISSIONS_BY_DEADLINE, act)
        return work_slice(one_batch, cursor, share, batch_sizer(options))


@task(name="count overdue submissions", **COUNT_OPTIONS)
def count_overdue(cutoff: Cutoff, options: PurgeOptions) -> Overdue:
    """Count what `overdue_submissions` counts, as a step of a run."""
    return overdue_submissions(cutoff, options.job)


def overdue_submissions(cutoff: Cutoff, job: str) -> Overdue:
    """Return the submissions that are past their deadline and still have content.

    Raises:
        DatabaseError: the statement failed.
    """
    query = select(func.count(), func.min(SUBMISSIONS.expires_at)).where(
        overdue(cutoff.as_of), finite_policy(), no_active_run()
    )
    return count_overdue_rows(query, cutoff, job)
