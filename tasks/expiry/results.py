"""What a statement on rows that are due returns, as a batch's result."""

from datetime import UTC, datetime

from sqlalchemy import ColumnClause, ColumnElement, Text, cast, func, literal_column

from maintenance.report import BatchResult
from tasks.expiry.ranges import Due


def ctid_of(due: Due) -> ColumnClause[object]:
    """Return the ctid column of the table."""
    return literal_column(f"{due.expiring.table.name}.ctid")


def as_datetime(time: str | None) -> datetime | None:
    """Return a due time; one before year 1, which Python cannot hold, becomes year 1."""
    if time is None:
        return None
    try:
        return datetime.fromisoformat(time)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def extremes(time: ColumnElement[datetime]) -> tuple[ColumnElement[str], ColumnElement[str]]:
    """Return the oldest and the newest time as PostgreSQL's text."""
    return cast(func.min(time), Text), cast(func.max(time), Text)


def result_of(due: Due, rows: int, oldest: str | None, newest: str | None) -> BatchResult:
    """Return the result of a batch that deleted so many rows, with their oldest and newest time."""
    if not rows:
        return BatchResult()
    result = BatchResult(
        selected=rows, done=rows, oldest=as_datetime(oldest), newest=as_datetime(newest)
    )
    result.rows_by_table[due.expiring.table.name] = rows
    return result
