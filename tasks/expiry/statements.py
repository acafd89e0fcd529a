"""The statements that delete, count and look at rows that are due."""

from datetime import datetime

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    Delete,
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
"""How long a stretch waits for a locked row before it goes on without it."""


def prepare(connection: Connection, longest_seconds: float) -> None:
    """Let the statements of this transaction give way soon: to a lock, and when they take long.

    Its commit does not wait for the disk; `settle` waits once for all of a slice.
    """
    connection.execute(
        sql(
            "SELECT set_config('lock_timeout', :lock, true),"
            " set_config('statement_timeout', :longest, true),"
            " set_config('synchronous_commit', 'off', true)"
        ),
        {"lock": milliseconds(LOCK_TIMEOUT_SECONDS), "longest": milliseconds(longest_seconds)},
    )


def settle(connection: Connection) -> None:
    """Make the commit of this transaction wait until all commits before it are on disk, too.

    It waits only when it has written something: an empty message, which nobody reads.
    """
    connection.execute(sql("SELECT pg_logical_emit_message(true, 'validibot-maintenance', '')"))


def gave_way(error: TransientDatabaseError) -> bool:
    """Return whether a statement ended by the lock or the statement time-out."""
    return isinstance(error, LockTimeout) or str(error).startswith("QueryCanceled:")


def delete_due(connection: Connection, due: Due, stretch: Range) -> BatchResult:
    """Delete the rows of a stretch with one plain DELETE.

    Nothing is returned for each row: that alone would cost half as much as the DELETE. So the
    oldest and newest time of a stretch by time are looked up right before, and those of a stretch
    by blocks are not known (see `Progress.span`).

    Raises:
        DBAPIError: a row was locked for too long, or any other failure.
    """
    oldest, newest = None, None
    if isinstance(stretch, TimeRange):
        oldest, newest = time_range(connection, due, stretch.scope(due))
    statement = delete(due.expiring.table).where(stretch.scope(due))
    return result_of(due, connection.execute(statement).rowcount, oldest, newest)


def time_range(
    connection: Connection, due: Due, scope: ColumnElement[bool]
) -> tuple[datetime | None, datetime | None]:
    """Return the oldest and newest time in scope: two looks into the index."""
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
    connection: Connection, due: Due, scope: ColumnElement[bool], at_most: int | None = None
) -> BatchResult:
    """Delete the rows in scope that nobody has locked; waits for nobody.

    They are claimed first, and deleted by their places while the claim is held.
    """
    column = due.expiring.time
    gone = _by_claim(due, scope, at_most).returning(column.label("time")).cte("gone")
    query = select(func.count(), func.min(gone.c.time), func.max(gone.c.time))
    return result_of(due, *connection.execute(query).one())


def delete_oldest(connection: Connection, due: Due, at_most: int) -> BatchResult:
    """Delete the oldest rows that are due and not locked, wherever they are."""
    return delete_unlocked(connection, due, due.scope, at_most)


def count_due(connection: Connection, due: Due, stretch: Range) -> tuple[int, datetime | None]:
    """Return how many rows of a stretch are still there, and the oldest one's time."""
    column = due.expiring.time
    query = select(func.count(), func.min(column)).where(stretch.scope(due))
    rows, oldest = connection.execute(query).one()
    return rows, oldest


def preview(connection: Connection, due: Due, stretch: Range) -> BatchResult:
    """Return what deleting a stretch would select."""
    column = due.expiring.time
    query = select(func.count(), func.min(column), func.max(column)).where(stretch.scope(due))
    result = result_of(due, *connection.execute(query).one())
    result.done = 0
    return result


def capped(stretch: Range) -> int | None:
    """Return how many rows of a stretch may be deleted at once, None for all."""
    return stretch.at_most if isinstance(stretch, TimeRange) else None


def result_of(due: Due, rows: int, oldest: datetime | None, newest: datetime | None) -> BatchResult:
    """Return the result of a batch that deleted so many rows."""
    if not rows:
        return BatchResult()
    result = BatchResult(selected=rows, done=rows, oldest=oldest, newest=newest)
    result.rows_by_table[due.expiring.table.name] = rows
    return result


def _by_claim(due: Due, scope: ColumnElement[bool], at_most: int | None) -> Delete:
    table = due.expiring.table
    ctid: ColumnClause[object] = literal_column(f"{table.name}.ctid")
    claim = (
        select(ctid)
        .select_from(table)
        .where(scope)
        .limit(at_most)
        .with_for_update(of=table, skip_locked=True)
    )
    if at_most is not None:
        claim = claim.order_by(due.expiring.time)
    return delete(table).where(ctid == any_(func.array(claim.scalar_subquery())))
