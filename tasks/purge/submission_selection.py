"""Which submissions are due; claims, previews and backlogs share the selection (SPEC 5.2)."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    exists,
    false,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.sql.selectable import LateralFromClause

from maintenance.cutoff import Cutoff
from maintenance.retention import INPUT_DAYS, INPUT_POLICIES, deadline_expression
from maintenance.schema import purge_retries, runs, submissions
from maintenance.schema.vocabulary import TERMINAL_RUN_STATUSES
from tasks.batching.keyset import KeysetOrder
from tasks.columns import SUBMISSIONS

SUBMISSIONS_BY_DEADLINE = KeysetOrder(SUBMISSIONS.expires_at, SUBMISSIONS.id)


def run_facts(ended_at: ColumnElement[Any] = runs.c.ended_at) -> LateralFromClause:
    """Return, for each submission, whether a run is active and when the latest one ended."""
    return (
        select(
            func.coalesce(func.bool_or(runs.c.status.not_in(TERMINAL_RUN_STATUSES)), false()).label(
                "active"
            ),
            func.max(ended_at).label("ended_at"),
        )
        .where(runs.c.submission_id == SUBMISSIONS.id)
        .lateral("facts")
    )


def new_deadline(facts: LateralFromClause) -> ColumnElement[datetime]:
    """Return the deadline that a submission should have (SPEC 3)."""
    base = func.coalesce(facts.c.ended_at, SUBMISSIONS.created)
    return deadline_expression(SUBMISSIONS.retention_policy, base, INPUT_DAYS)


def unknown_policy() -> ColumnElement[bool]:
    """Return whether a submission's policy is unknown."""
    return SUBMISSIONS.retention_policy.not_in(INPUT_POLICIES)


def wrong_deadline(deadline: ColumnElement[datetime]) -> ColumnElement[bool]:
    """Return whether a submission's deadline is another one, or its policy is unknown."""
    return or_(SUBMISSIONS.expires_at.is_distinct_from(deadline), unknown_policy())


def finite_policy() -> ColumnElement[bool]:
    """Return whether a submission's policy keeps it for a number of days."""
    return SUBMISSIONS.retention_policy.in_(list(INPUT_DAYS))


def overdue(as_of: datetime) -> ColumnElement[bool]:
    """Return whether a submission has content whose recorded deadline has passed."""
    return and_(SUBMISSIONS.expires_at <= as_of, SUBMISSIONS.content_purged_at.is_(None))


def undated() -> ColumnElement[bool]:
    """Return whether a submission has content, a finite policy, and no recorded deadline."""
    return and_(
        SUBMISSIONS.expires_at.is_(None), SUBMISSIONS.content_purged_at.is_(None), finite_policy()
    )


def in_backoff(cutoff: Cutoff, *, retry_failed: bool) -> ColumnElement[bool]:
    """Return whether a submission's purge failed before and its next attempt is not due yet.

    Failures of this run always count, so that no item is tried twice in one run. With
    `retry_failed` no others count.
    """
    waiting = purge_retries.c.last_attempt_at >= cutoff.started_at
    if not retry_failed:
        waiting = or_(waiting, purge_retries.c.next_retry_at > cutoff.as_of)
    return exists(literal(1)).where(
        purge_retries.c.submission_id == SUBMISSIONS.id, purge_retries.c.attempt_count > 0, waiting
    )


def no_active_run() -> ColumnElement[bool]:
    """Return whether no run of a submission is active."""
    return ~exists(literal(1)).where(
        runs.c.submission_id == SUBMISSIONS.id, runs.c.status.not_in(TERMINAL_RUN_STATUSES)
    )


def claimable(cutoff: Cutoff, *, retry_failed: bool) -> Select[Any]:
    """Return the submissions to purge, locked; rows that are locked already are left out.

    The lock is FOR UPDATE: a run that is being created for the submission cannot be committed
    before the lock is released, because its foreign key is checked against the row.
    """
    return (
        select(
            SUBMISSIONS.id,
            SUBMISSIONS.expires_at.label("moment"),
            SUBMISSIONS.created,
            SUBMISSIONS.retention_policy,
            SUBMISSIONS.input_file,
            literal(False).label("purged"),  # noqa: FBT003 - a value in SQL
        )
        .where(
            overdue(cutoff.as_of),
            finite_policy(),
            no_active_run(),
            ~in_backoff(cutoff, retry_failed=retry_failed),
        )
        .order_by(SUBMISSIONS.expires_at, SUBMISSIONS.id)
        .with_for_update(of=submissions, skip_locked=True)
    )
