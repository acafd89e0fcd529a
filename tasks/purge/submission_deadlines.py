"""Deadlines of submissions, recomputed where they are wrong or missing (SPEC 3, 5.2).

Two scopes are repaired. Overdue submissions are read from the index on `expires_at`, page by page.
Undated ones (a finite policy without a deadline) have no index: they are found in one pass over the
table, by ranges of blocks.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    case,
    literal,
    select,
    true,
)

from maintenance.report import BatchResult
from maintenance.retention import DO_NOT_STORE
from maintenance.schema import runs, submissions
from tasks.batching.arrays import any_uuid
from tasks.columns import SUBMISSIONS
from tasks.purge.repairs import deadlines_repaired, purges_queued
from tasks.purge.retry_queue import count_queueable, queue_purges
from tasks.purge.submission_selection import (
    new_deadline,
    run_facts,
    unknown_policy,
    wrong_deadline,
)


def wrong_deadlines(
    scope: ColumnElement[bool], ended_at: ColumnElement[Any] = runs.c.ended_at
) -> Select[UUID, str, bool, datetime]:
    """Return the submissions in scope whose deadline or policy is wrong.

    Purged submissions and those with an active run are left out (SPEC 3). `ended_at`: the time at
    which a run ended.
    """
    facts = run_facts(ended_at)
    deadline = new_deadline(facts)
    return (
        select(
            SUBMISSIONS.id,
            SUBMISSIONS.retention_policy.label("policy"),
            unknown_policy().label("unknown"),
            deadline.label("deadline"),
        )
        .join(facts, true())
        .where(
            scope,
            SUBMISSIONS.content_purged_at.is_(None),
            ~facts.c.active,
            wrong_deadline(deadline),
        )
    )


def repair_deadlines(connection: Connection, scope: ColumnElement[bool]) -> BatchResult:
    """Correct the deadlines in scope, and queue the purge of what must not be stored.

    Claims the rows, then computes again in a new statement while the claim is held. `modified` is
    not changed.
    """
    claim = wrong_deadlines(scope).with_for_update(of=submissions, skip_locked=True)
    ids = [row.id for row in connection.execute(claim)]
    if not ids:
        return BatchResult()
    fresh = wrong_deadlines(SUBMISSIONS.id == any_uuid(ids)).cte("fresh")
    update = (
        submissions.update()
        .where(submissions.c.id == fresh.c.id, submissions.c.content_purged_at.is_(None))
        .values(
            expires_at=fresh.c.deadline,
            retention_policy=case(
                (fresh.c.unknown, literal(DO_NOT_STORE)), else_=submissions.c.retention_policy
            ),
        )
        .returning(fresh.c.id, fresh.c.policy, fresh.c.unknown, fresh.c.deadline)
    )
    rows = connection.execute(update).all()
    result = _repairs_of(rows)
    to_queue = _must_be_queued(rows)
    if to_queue:
        result += purges_queued(queue_purges(connection, to_queue))
    return result


def count_wrong_deadlines(
    connection: Connection, ids: Sequence[UUID], ended_at: ColumnElement[Any]
) -> tuple[BatchResult, set[UUID]]:
    """Return what `repair_deadlines` would do with these submissions, and which it would queue."""
    rows = connection.execute(wrong_deadlines(SUBMISSIONS.id == any_uuid(ids), ended_at)).all()
    return count_repairs(connection, rows), set(_must_be_queued(rows))


def count_repairs(connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]]) -> BatchResult:
    """Return what `repair_deadlines` would do with these rows of `wrong_deadlines`."""
    result = _repairs_of(rows)
    to_queue = _must_be_queued(rows)
    if to_queue:
        result += purges_queued(count_queueable(connection, to_queue))
    return result


def _must_be_queued(rows: Sequence[Row[*tuple[Any, ...]]]) -> list[UUID]:
    """Return the submissions of these rows that must not be stored."""
    return [row.id for row in rows if row.unknown or row.policy == DO_NOT_STORE]


def _repairs_of(rows: Sequence[Row[*tuple[Any, ...]]]) -> BatchResult:
    """Return the result of repairing these rows."""
    return deadlines_repaired(submissions, "deadlines repaired", rows)
