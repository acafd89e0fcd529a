"""The statements that delete, count and find rows that are due."""

from datetime import datetime

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    any_,
    delete,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy import text as sql

from maintenance.database import milliseconds
from maintenance.errors import LockTimeout, TransientDatabaseError
from maintenance.report import BatchResult
from tasks.expiry.ranges import Due, Range, TimeRange

LOCK_TIMEOUT_SECONDS = 0.05
"""How long a DELETE waits for a locked row before the batch is retried with SKIP LOCKED."""


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


def timed_out(error: TransientDatabaseError) -> bool:
    """Return whether the lock time-out or the statement time-out ended a statement."""
    return isinstance(error, LockTimeout) or str(error).startswith("QueryCanceled:")


def delete_due(connection: Connection, due: Due, rows: Range) -> BatchResult:
    """Delete the rows of a range with one plain DELETE.

    RETURNING would cost half as much again as the DELETE. So the oldest and newest time of a time
    range are looked up just before; those of a block range stay unknown (see `Progress.span`).

    Raises:
        DBAPIError: a row was locked for too long, or any other failure.
    """
    oldest, newest = None, None
    if isinstance(rows, TimeRange):
        oldest, newest = time_span(connection, due, rows.scope(due))
    statement = delete(due.expiring.table).where(rows.scope(due))
    return _result(due, connection.execute(statement).rowcount, oldest, newest)


def time_span(
    connection: Connection, due: Due, scope: ColumnElement[bool]
) -> tuple[datetime | None, datetime | None]:
    """Return the oldest and newest time in scope, by two index lookups."""
    column = due.expiring.time
    first = select(column).where(scope).limit(1)
    query = select(
        first.order_by(column).scalar_subquery(), first.order_by(column.desc()).scalar_subquery()
    )
    oldest, newest = connection.execute(query).one()
    return oldest, newest


def is_gone(connection: Connection, due: Due, moment: datetime | None) -> bool:
    """Return whether no row that is due has this time."""
    at = select(literal(1)).where(due.scope, due.expiring.time == moment)
    return moment is not None and connection.execute(at.limit(1)).first() is None


def delete_unlocked(
    connection: Connection, due: Due, scope: ColumnElement[bool], max_rows: int | None = None
) -> BatchResult:
    """Delete the rows in scope that are not locked, without waiting; with a limit, the oldest.

    The rows are claimed first, and deleted by their ctid while the claim is held.
    """
    table, column = due.expiring.table, due.expiring.time
    ctid: ColumnClause[object] = literal_column(f"{table.name}.ctid")
    claim = (
        select(ctid)
        .select_from(table)
        .where(scope)
        .limit(max_rows)
        .with_for_update(of=table, skip_locked=True)
    )
    if max_rows is not None:
        claim = claim.order_by(column)
    claimed = delete(table).where(ctid == any_(func.array(claim.scalar_subquery())))
    gone = claimed.returning(column.label("time")).cte("gone")
    query = select(func.count(), func.min(gone.c.time), func.max(gone.c.time))
    return _result(due, *connection.execute(query).one())


def count_due(connection: Connection, due: Due, rows: Range) -> tuple[int, datetime | None]:
    """Return how many rows of a range are due, and the oldest one's time."""
    counted = preview(connection, due, rows)
    return counted.selected, counted.oldest


def preview(connection: Connection, due: Due, rows: Range) -> BatchResult:
    """Return the result of deleting a range, with `done` 0."""
    column = due.expiring.time
    query = select(func.count(), func.min(column), func.max(column)).where(rows.scope(due))
    result = _result(due, *connection.execute(query).one())
    result.done = 0
    return result


def row_limit(rows: Range) -> int | None:
    """Return how many rows of a range may be deleted at once; None for all."""
    return rows.max_rows if isinstance(rows, TimeRange) else None


def _result(due: Due, rows: int, oldest: datetime | None, newest: datetime | None) -> BatchResult:
    if not rows:
        return BatchResult()
    result = BatchResult(selected=rows, done=rows, oldest=oldest, newest=newest)
    result.rows_by_table[due.expiring.table.name] = rows
    return result
