"""Deadlines of runs' outputs, computed where they are missing (SPEC 3, 5.3)."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, and_, case, literal, select

from maintenance.report import BatchResult
from maintenance.retention import DO_NOT_STORE
from maintenance.schema import purge_retries, runs, submissions
from tasks.batching.arrays import any_uuid
from tasks.purge.output_selection import (
    RUNS,
    new_deadline,
    new_end,
    unknown_policy,
    without_deadline,
)
from tasks.purge.retry_queue import count_queueable, queue_purges
from tasks.purge.submission_deadlines import count_wrong_deadlines, repair_deadlines
from tasks.purge.submission_selection import SUBMISSIONS, no_active_run


def repair_outputs(connection: Connection, scope: ColumnElement[bool]) -> BatchResult:
    """Give runs in scope the deadlines that they lack, then compute those of their submissions.

    Claims first, then computes in a fresh statement. `modified` stays.
    """
    claim = select(RUNS.id).where(scope, without_deadline())
    claim = claim.with_for_update(of=runs, skip_locked=True)
    ids = [row.id for row in connection.execute(claim)]
    if not ids:
        return BatchResult()
    fresh = _missing(RUNS.id == any_uuid(ids)).cte("fresh")
    rows = connection.execute(
        runs.update()
        .where(runs.c.id == fresh.c.id, runs.c.output_purged_at.is_(None))
        .values(
            ended_at=fresh.c.ended_at,
            output_expires_at=fresh.c.deadline,
            output_retention_policy=case(
                (fresh.c.unknown, literal(DO_NOT_STORE)), else_=RUNS.output_retention_policy
            ),
        )
        .returning(fresh.c.submission_id, fresh.c.policy, fresh.c.unknown)
    ).all()
    result = _repairs(rows)
    affected = _submissions(rows)
    if affected:
        result += follow_runs(connection, affected)
    return result


def follow_runs(connection: Connection, ids: Sequence[UUID]) -> BatchResult:
    """Give submissions whose runs have ended their deadlines; queue those not to be stored."""
    result = repair_deadlines(connection, SUBMISSIONS.id == any_uuid(ids))
    to_queue = _to_queue(connection, ids, lock=True)
    if to_queue:
        result += _queued(queue_purges(connection, to_queue))
    return result


def preview_repairs(connection: Connection, scope: ColumnElement[bool]) -> BatchResult:
    """Return what `repair_outputs` would do, without changing anything."""
    rows = connection.execute(_missing(scope)).all()
    result = _repairs(rows)
    affected = _submissions(rows)
    if affected:
        # As it would be once the runs have their ends.
        end = case((without_deadline(), new_end()), else_=RUNS.ended_at)
        result += count_followed(connection, affected, end)
    return result


def count_followed(
    connection: Connection, ids: Sequence[UUID], ended_at: ColumnElement[Any]
) -> BatchResult:
    """Return what `follow_runs` would do; `ended_at` says when a run of theirs has ended."""
    result, queued = count_wrong_deadlines(connection, ids, ended_at)
    others = set(_to_queue(connection, ids, lock=False)) - queued
    if others:
        result += _queued(count_queueable(connection, list(others)))
    return result


def _missing(scope: ColumnElement[bool]) -> Any:  # noqa: ANN401 - a SELECT of five columns
    return select(
        RUNS.id,
        RUNS.submission_id,
        RUNS.output_retention_policy.label("policy"),
        unknown_policy().label("unknown"),
        new_end().label("ended_at"),
        new_deadline().label("deadline"),
    ).where(scope, without_deadline())


def _submissions(rows: Sequence[Row[Any]]) -> list[UUID]:
    return sorted({row.submission_id for row in rows if row.submission_id is not None})


def _to_queue(connection: Connection, ids: Sequence[UUID], *, lock: bool) -> list[UUID]:
    """Return those of the submissions that must not be stored and can be purged now."""
    found = select(SUBMISSIONS.id).where(
        and_(
            SUBMISSIONS.id == any_uuid(ids),
            SUBMISSIONS.retention_policy == DO_NOT_STORE,
            SUBMISSIONS.content_purged_at.is_(None),
            no_active_run(),
        )
    )
    if lock:
        found = found.with_for_update(of=submissions, skip_locked=True)
    return [row.id for row in connection.execute(found)]


def _repairs(rows: Sequence[Row[Any]]) -> BatchResult:
    result = BatchResult()
    if rows:
        result.repaired["output deadlines repaired"] = len(rows)
        result.rows[runs.name] += len(rows)
    result.unknown_policies = Counter(row.policy for row in rows if row.unknown)
    return result


def _queued(number: int) -> BatchResult:
    result = BatchResult()
    if number:
        result.repaired["purges queued"] = number
        result.rows[purge_retries.name] += number
    return result
