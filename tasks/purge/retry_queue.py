"""The queue of submissions whose content must go: `submissions_purgeretry` (SPEC 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, func, literal, null, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningInsert

from maintenance.database import transaction
from maintenance.errors import DatabaseError, TransientDatabaseError
from maintenance.outside_text import one_line
from maintenance.report import BatchResult, NextAttempt
from maintenance.retention import MAX_ERROR_CHARACTERS, backoff_expression
from maintenance.schema import purge_retries, submissions
from tasks.batching.arrays import any_uuid, text_array, uuid_array
from tasks.batching.bisection import Fault, Steps, bisect
from tasks.batching.row_changes import Changes, RowDeletion, RowUpdate
from tasks.columns import QUEUE

POSTPONEMENT = timedelta(minutes=5)
"""After this time a queued submission with an active run is due again."""

COLUMNS = [
    "submission_id",
    "created_at",
    "next_retry_at",
    "attempt_count",
    "last_error",
    "last_attempt_at",
]


def queue_purges(connection: Connection, ids: Sequence[UUID]) -> int:
    """Queue do-not-store submissions for their purge; return how many rows were written.

    The caller has locked the submissions, and has checked that no run of theirs is active. A row
    that is due later becomes due now; a row that is already due is not written.
    """
    now = func.statement_timestamp()
    rows = select(submissions.c.id, now, now, literal(0), literal(""), null()).where(
        submissions.c.id == any_uuid(ids), submissions.c.content_purged_at.is_(None)
    )
    statement = insert(purge_retries).from_select(COLUMNS, rows)
    written = connection.execute(
        statement.on_conflict_do_update(
            index_elements=[QUEUE.submission_id],
            set_={"next_retry_at": now},
            where=QUEUE.next_retry_at > now,
        ).returning(QUEUE.submission_id)
    )
    return len(written.all())


def count_queueable(connection: Connection, ids: Sequence[UUID]) -> int:
    """Return how many rows `queue_purges` would write for these unpurged submissions."""
    already_due = select(func.count()).where(
        QUEUE.submission_id == any_uuid(ids), QUEUE.next_retry_at <= func.statement_timestamp()
    )
    return len(ids) - connection.execute(already_due).scalar_one()


def queue_changes(*, postponed: Sequence[UUID], dropped: Sequence[UUID]) -> Changes:
    """Return the changes for queued submissions that are not purged now (SPEC 5.4).

    Postponed ones have an active run: they are due again in five minutes, and no attempt is
    counted. Dropped ones are purged already: their row is deleted.
    """
    later = func.statement_timestamp() + POSTPONEMENT
    changes: Changes = []
    if postponed:
        scope = QUEUE.submission_id == any_uuid(postponed)
        changes.append(RowUpdate(purge_retries, scope, stamps={"next_retry_at": later}))
    if dropped:
        changes.append(RowDeletion(purge_retries, QUEUE.submission_id == any_uuid(dropped)))
    return changes


@dataclass
class Recorded:
    """Failures after their recording: the next attempts, and why others were not recorded."""

    retries: dict[UUID, NextAttempt] = field(default_factory=dict)
    refused: dict[UUID, str] = field(default_factory=dict)


def record_failures(engine: Engine, causes: Mapping[UUID, str]) -> Recorded:
    """Record failed purges with the next step of the backoff, in transactions of their own.

    A submission without a row gets one; in an existing row the attempts are counted up. Submissions
    that were purged or deleted meanwhile are left out.

    Raises:
        TransientDatabaseError: the database does not answer.
    """
    recorded = Recorded()
    refused = recorded.refused

    def attempt(ids: Sequence[UUID]) -> BatchResult:
        with transaction(engine) as connection:
            written = connection.execute(_failures({one: causes[one] for one in ids})).all()
        for row in written:
            recorded.retries[row.submission_id] = NextAttempt(
                attempts=row.attempt_count, due=row.next_retry_at
            )
        return BatchResult()

    def alone(key: UUID, fault: Fault) -> BatchResult:
        refused[key] = str(fault)
        return BatchResult()

    def untried(ids: Sequence[UUID], fault: Fault) -> BatchResult:
        refused.update(dict.fromkeys(ids, str(fault)))
        return BatchResult()

    try:
        if causes:
            bisect(list(causes), Steps(attempt, alone, untried))
    except TransientDatabaseError:
        raise
    except DatabaseError as error:
        refused.update(dict.fromkeys(causes.keys() - recorded.retries.keys(), str(error)))
    return recorded


def _failures(causes: Mapping[UUID, str]) -> ReturningInsert[Any]:
    """Insert or update the rows of these failures."""
    now = func.statement_timestamp()
    texts = [one_line(cause, MAX_ERROR_CHARACTERS) for cause in causes.values()]
    failed = select(
        func.unnest(uuid_array(list(causes))).label("id"),
        func.unnest(text_array(texts)).label("cause"),
    ).subquery("failed")
    first = literal(1)
    rows = (
        select(failed.c.id, now, now + backoff_expression(first), first, failed.c.cause, now)
        .join(submissions, submissions.c.id == failed.c.id)
        .where(submissions.c.content_purged_at.is_(None))
    )
    statement = insert(purge_retries).from_select(COLUMNS, rows)
    attempts = QUEUE.attempt_count + 1
    return statement.on_conflict_do_update(
        index_elements=[QUEUE.submission_id],
        set_={
            "attempt_count": attempts,
            "last_attempt_at": now,
            "last_error": statement.excluded.last_error,
            "next_retry_at": now + backoff_expression(attempts),
        },
    ).returning(QUEUE.submission_id, QUEUE.attempt_count, QUEUE.next_retry_at)
