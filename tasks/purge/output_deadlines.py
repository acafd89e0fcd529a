"""Deadlines of runs' outputs, computed where they are missing (SPEC 3, 5.3)."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, and_, case, literal, select

from maintenance.report import BatchResult
from maintenance.retention import DO_NOT_STORE
from maintenance.schema import runs, submissions
from tasks.batching.arrays import any_uuid
from tasks.columns import RUNS, SUBMISSIONS
from tasks.purge.output_selection import (
    new_deadline,
    new_end,
    unknown_policy,
    without_deadline,
)
from tasks.purge.repairs import deadlines_repaired, purges_queued
from tasks.purge.retry_queue import count_queueable, queue_purges
from tasks.purge.submission_deadlines import count_wrong_deadlines, repair_deadlines
from tasks.purge.submission_selection import no_active_run

NAME = "output deadlines repaired"


def repair_outputs(connection: Connection, scope: ColumnElement[bool]) -> BatchResult:
    """Write the missing deadlines of runs in scope, then correct those of their submissions.

    Claims the rows, then computes in a new statement. `modified` is not changed.
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
    result = deadlines_repaired(runs, NAME, rows)
    affected = _submissions(rows)
    if affected:
        result += repair_submissions_of_runs(connection, affected)
    return result


def repair_submissions_of_runs(connection: Connection, ids: Sequence[UUID]) -> BatchResult:
    """Correct the deadlines of submissions whose runs have ended; queue what must not be stored."""
    result = repair_deadlines(connection, SUBMISSIONS.id == any_uuid(ids))
    to_queue = _to_queue(connection, ids, lock=True)
    if to_queue:
        result += purges_queued(queue_purges(connection, to_queue))
    return result


def preview_repairs(connection: Connection, scope: ColumnElement[bool]) -> BatchResult:
    """Return what `repair_outputs` would do, without changing anything."""
    rows = connection.execute(_missing(scope)).all()
    result = deadlines_repaired(runs, NAME, rows)
    affected = _submissions(rows)
    if affected:
        # The submissions' deadlines count from the ends that the repair would write.
        end = case((without_deadline(), new_end()), else_=RUNS.ended_at)
        result += count_submissions_of_runs(connection, affected, end)
    return result


def count_submissions_of_runs(
    connection: Connection, ids: Sequence[UUID], ended_at: ColumnElement[Any]
) -> BatchResult:
    """Return what `repair_submissions_of_runs` would do.

    `ended_at`: the time at which a run ended.
    """
    result, queued = count_wrong_deadlines(connection, ids, ended_at)
    others = set(_to_queue(connection, ids, lock=False)) - queued
    if others:
        result += purges_queued(count_queueable(connection, list(others)))
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


def _submissions(rows: Sequence[Row[*tuple[Any, ...]]]) -> list[UUID]:
    return sorted({row.submission_id for row in rows if row.submission_id is not None})


def _to_queue(connection: Connection, ids: Sequence[UUID], *, lock: bool) -> list[UUID]:
    """Return which of the submissions must not be stored and can be purged now."""
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
