"""The statements that delete rows and set the references to them to NULL (SPEC 7).

Each is one statement, so that a row and the references to it change together, and so that no key
leaves the database.
"""

from collections import Counter

from sqlalchemy import CTE, ColumnElement, Connection, Select, and_, any_, delete, func, select

from maintenance.report import BatchResult
from tasks.expiry.ranges import Due, Range
from tasks.expiry.results import ctid_of, extremes, result_of


def delete_and_free(
    connection: Connection,
    due: Due,
    scope: ColumnElement[bool],
    times: tuple[str | None, str | None],
) -> BatchResult:
    """Delete the rows in scope, waiting for locks, and free the rows that name them.

    Args:
        connection: of the batch's transaction.
        due: what the run may delete.
        scope: the rows; those that are not due are left out.
        times: the oldest and newest time in scope, for the result.

    Raises:
        DBAPIError: a row was locked for too long, or any other failure.
    """
    key = due.expiring.table.c.id
    gone = delete(due.expiring.table).where(scope).returning(key).cte("gone")
    freed = [one.freed(select(gone.c.id)) for one in due.references]
    rows, *counts = connection.execute(select(_number(gone), *map(_number, freed))).one()
    return _with_freed(due, result_of(due, rows, *times), counts)


def delete_claimed_and_free(
    connection: Connection, due: Due, scope: ColumnElement[bool], claim: Select[object]
) -> BatchResult:
    """Delete the rows that a claim locks, and free those that name them, without waiting.

    A row stays when one that names it is locked: the application is working on it.

    Args:
        connection: of the batch's transaction.
        due: what the run may delete.
        scope: what the claim selects; it is part of the DELETE, too.
        claim: a SELECT of the ctid of unlocked rows, FOR UPDATE SKIP LOCKED.
    """
    table, key = due.expiring.table, due.expiring.table.c.id
    claimed = claim.with_only_columns(ctid_of(due).label("place"), key).cte("claimed")
    pairs = [one.freed_unlocked(select(claimed.c.id)) for one in due.references]
    free = and_(*(claimed.c.id.not_in(held) for _, held in pairs))
    places = func.array(select(claimed.c.place).where(free).scalar_subquery())
    gone = (
        delete(table)
        .where(ctid_of(due) == any_(places), scope)
        .returning(due.expiring.time.label("time"))
        .cte("gone")
    )
    counted = [
        select(value).select_from(gone).scalar_subquery()
        for value in (func.count(), *extremes(gone.c.time))
    ]
    query = select(*counted, *(_number(freed) for freed, _ in pairs))
    rows, oldest, newest, *counts = connection.execute(query).one()
    return _with_freed(due, result_of(due, rows, oldest, newest), counts)


def count_freed(connection: Connection, due: Due, rows: Range) -> Counter[str]:
    """Return how many rows of which tables would be freed with the rows of a range."""
    if not due.references:
        return Counter()
    ids = select(due.expiring.table.c.id).where(rows.scope(due))
    return Counter(
        {
            one.table: connection.execute(
                select(func.count()).select_from(one.column.table).where(one.names(ids))
            ).scalar_one()
            for one in due.references
        }
    )


def _number(rows: CTE) -> ColumnElement[int]:
    return select(func.count()).select_from(rows).scalar_subquery()


def _with_freed(due: Due, result: BatchResult, counts: list[int]) -> BatchResult:
    for reference, count in zip(due.references, counts, strict=True):
        if count:
            result.rows_by_table[reference.table] += count
    return result
