"""Deadlines of submissions, recomputed where they are wrong or missing (SPEC 3, 5.2).

Two scopes find the candidates. Overdue submissions come from the index on `expires_at`, page by
page. Undated ones (a finite policy without a deadline) have no index of their own: they are found
by slices of heap blocks, one pass over the table in bounded statements.
"""

from collections import Counter
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
    or_,
    select,
    true,
)

from maintenance.report import BatchResult
from maintenance.retention import DO_NOT_STORE
from maintenance.schema import runs, submissions
from tasks.batching.arrays import any_uuid
from tasks.purge.retry_queue import count_queueable, queue_purges
from tasks.purge.submission_selection import SUBMISSIONS, new_deadline, run_facts, unknown_policy


def wrong_deadlines(
    scope: ColumnElement[bool], ended_at: ColumnElement[Any] = runs.c.ended_at
) -> Select[tuple[UUID, str, bool, datetime]]:
    """Return the submissions in scope whose deadline or policy is not what it should be.

    Left out are purged ones and those with an active run (SPEC 3). `ended_at` says when a run of
    theirs has ended.
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
            or_(SUBMISSIONS.expires_at.is_distinct_from(deadline), unknown_policy()),
        )
    )


def repair_deadlines(connection: Connection, scope: ColumnElement[bool]) -> BatchResult:
    """Write the right deadlines in scope, and queue the purge of what must not be stored.

    Claims first, then computes again in a fresh statement while the claim is held. Only wrong
    columns are written; `modified` stays.
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
    result = repairs_of(rows)
    to_queue = [row.id for row in rows if row.unknown or row.policy == DO_NOT_STORE]
    if to_queue:
        queued = queue_purges(connection, to_queue)
        result.repaired["purges queued"] = queued
        result.rows["submissions_purgeretry"] += queued
    return result


def count_wrong_deadlines(
    connection: Connection, ids: Sequence[UUID], ended_at: ColumnElement[Any]
) -> tuple[BatchResult, set[UUID]]:
    """Return what `repair_deadlines` would do with these submissions, and which it would queue."""
    rows = connection.execute(wrong_deadlines(SUBMISSIONS.id == any_uuid(ids), ended_at)).all()
    result = repairs_of(rows)
    to_queue = {row.id for row in rows if row.unknown or row.policy == DO_NOT_STORE}
    if to_queue:
        queued = count_queueable(connection, list(to_queue))
        result.repaired["purges queued"] = queued
        result.rows["submissions_purgeretry"] += queued
    return result, to_queue


def repairs_of(rows: Sequence[Row[tuple[UUID, str, bool, datetime]]]) -> BatchResult:
    """Return the report of these repairs: how many, and which unknown policies were met."""
    result = BatchResult()
    if rows:
        result.repaired["deadlines repaired"] = len(rows)
        result.rows[submissions.name] += len(rows)
    result.unknown_policies = Counter(row.policy for row in rows if row.unknown)
    return result
