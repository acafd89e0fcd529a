"""The statements that delete, count and find rows that are due."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    and_,
    any_,
    cast,
    delete,
    func,
    literal,
    select,
)
from sqlalchemy import text as sql

from maintenance.database import milliseconds
from maintenance.errors import DatabaseError, LockTimeout, RowRefused
from maintenance.report import BatchResult
from tasks.expiry.freeing import delete_and_free, delete_claimed_and_free
from tasks.expiry.ranges import BlockRange, Due, EqualTime, Range, moment
from tasks.expiry.results import ctid_of, extremes, result_of

LOCK_TIMEOUT_SECONDS = 0.05
"""How long a DELETE waits for a locked row before the batch is retried with SKIP LOCKED."""

MAX_EQUAL = 100_000
"""Most rows of one time that are bisected; a later run deletes the others."""


def prepare(connection: Connection, limit_seconds: float) -> None:
    """Set this transaction's lock time-out and time limit, and make its commit asynchronous.

    `flush_commits` waits for the disk once for all batches of a slice.
    """
    connection.execute(
        sql(
            "SELECT set_config('lock_timeout', :lock, true),"
            " set_config('statement_timeout', :limit, true),"
            " set_config('synchronous_commit', 'off', true)"
        ),
        {"lock": milliseconds(LOCK_TIMEOUT_SECONDS), "limit": milliseconds(limit_seconds)},
    )


def limit_statements(connection: Connection, limit_seconds: float) -> None:
    """Set the time limit of this transaction's statements alone."""
    limit = {"limit": milliseconds(limit_seconds)}
    connection.execute(sql("SELECT set_config('statement_timeout', :limit, true)"), limit)


def flush_commits(connection: Connection) -> None:
    """Make the commit of this transaction wait until all commits before it are on disk.

    A commit waits only when its transaction has written WAL: here, an empty logical message.
    """
    connection.execute(sql("SELECT pg_logical_emit_message(true, 'validibot-maintenance', '')"))


def timed_out(error: DatabaseError) -> bool:
    """Return whether the lock time-out or the statement time-out ended a statement."""
    return isinstance(error, LockTimeout) or str(error).startswith("QueryCanceled:")


def failed_by_rows(error: DatabaseError) -> bool:
    """Return whether fewer rows may succeed: a time-out, or a row that the database refused."""
    return isinstance(error, RowRefused) or timed_out(error)


def delete_due(connection: Connection, due: Due, rows: Range) -> BatchResult:
    """Delete the rows of a range with one plain DELETE.

    RETURNING would cost half as much again as the DELETE. So the oldest and newest time of a time
    range are looked up just before; those of a block range stay unknown (see `Progress.span`).

    Raises:
        DBAPIError: a row was locked for too long, or any other failure.
    """
    oldest, newest = None, None
    if not isinstance(rows, BlockRange):
        oldest, newest = time_span(connection, due, rows.scope(due))
    if due.references:
        return delete_and_free(connection, due, rows.scope(due), (oldest, newest))
    statement = delete(due.expiring.table).where(rows.scope(due))
    return result_of(due, connection.execute(statement).rowcount, oldest, newest)


def time_span(
    connection: Connection, due: Due, scope: ColumnElement[bool]
) -> tuple[str | None, str | None]:
    """Return the oldest and newest time in scope, by two index lookups."""
    column = due.expiring.time
    first = select(cast(column, Text)).where(scope).limit(1)
    query = select(
        first.order_by(column).scalar_subquery(), first.order_by(column.desc()).scalar_subquery()
    )
    oldest, newest = connection.execute(query).one()
    return oldest, newest


def is_gone(connection: Connection, due: Due, time: str) -> bool:
    """Return whether no row that is due has this time."""
    at = select(literal(1)).where(due.scope, due.expiring.time == moment(time))
    return connection.execute(at.limit(1)).first() is None


def delete_unlocked(
    connection: Connection, due: Due, scope: ColumnElement[bool], max_rows: int | None = None
) -> BatchResult:
    """Delete the rows in scope that are not locked, without waiting; with a limit, the oldest.

    The rows are claimed first, and deleted by their ctid while the claim is held. Their scope is
    part of the DELETE, too: a ctid is unique within one physical table only, and must never match a
    row of a partition or child table that is not due.
    """
    table, column = due.expiring.table, due.expiring.time
    claim = (
        select(ctid_of(due))
        .select_from(table)
        .where(scope)
        .limit(max_rows)
        .with_for_update(of=table, skip_locked=True)
    )
    if max_rows is not None:
        claim = claim.order_by(column)
    if due.references:
        return delete_claimed_and_free(connection, due, scope, claim)
    claimed = ctid_of(due) == any_(func.array(claim.scalar_subquery()))
    gone = delete(table).where(claimed, scope).returning(column.label("time")).cte("gone")
    query = select(func.count(), *extremes(gone.c.time))
    return result_of(due, *connection.execute(query).one())


def delete_range_unlocked(connection: Connection, due: Due, rows: Range) -> BatchResult:
    """Delete the rows of a range that are not locked, without waiting."""
    result = delete_unlocked(connection, due, rows.scope(due), row_limit(rows))
    if isinstance(rows, BlockRange):
        # The times of one block range say nothing about those of the others.
        result.oldest = result.newest = None
    return result


def ctids(connection: Connection, due: Due, rows: Range) -> Sequence[str]:
    """Return the ctids of the rows of a range that are due.

    Of one equal time these are all its rows, up to `MAX_EQUAL`: the scan goes on behind that time.
    """
    limit = MAX_EQUAL if isinstance(rows, EqualTime) else None
    query = select(cast(ctid_of(due), Text)).where(rows.scope(due)).limit(limit)
    return connection.execute(query).scalars().all()


def with_ctids(due: Due, places: Sequence[str]) -> ColumnElement[bool]:
    """Return whether a row is due and has one of these ctids."""
    listed = sql("(ARRAY(SELECT CAST(unnest(CAST(:ctids AS text[])) AS tid)))")
    return and_(ctid_of(due) == any_(listed.bindparams(ctids=list(places))), due.scope)


def count_due(connection: Connection, due: Due, rows: Range) -> tuple[int, datetime | None]:
    """Return how many rows of a range are due, and the oldest one's time."""
    counted = preview(connection, due, rows)
    return counted.selected, counted.oldest


def preview(connection: Connection, due: Due, rows: Range) -> BatchResult:
    """Return the result of deleting a range, with `done` 0."""
    query = select(func.count(), *extremes(due.expiring.time)).where(rows.scope(due))
    result = result_of(due, *connection.execute(query).one())
    result.done = 0
    return result


def row_limit(rows: Range) -> int | None:
    """Return how many rows of a range may be deleted at once; None for all."""
    return rows.max_rows if isinstance(rows, EqualTime) else None
