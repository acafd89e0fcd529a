"""Two ways to scan the rows that are due, each in ranges of bounded size.

A time scan takes ranges of the time's index, each up to the time of the n-th row after its start.
It reads only rows that are due, but visits a heap block for each where they are scattered.

A block scan takes ranges of heap blocks. It reads the whole table once, and each block once.

Both advance with every range, so deleted rows are not read again, even while an old snapshot keeps
PostgreSQL from removing them. docs/decisions/0004 has the measurements.

Times are carried as PostgreSQL's own text, because some (-infinity, years BC) do not fit into
Python's datetime.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    DateTime,
    Text,
    and_,
    cast,
    literal,
    select,
    text,
    true,
)

from maintenance.expiring import ExpiringTable
from tasks.expiry.references import Reference


def moment(time: str) -> ColumnElement[datetime]:
    """Return a time as an SQL expression."""
    return cast(literal(time), DateTime(timezone=True))


@dataclass(frozen=True)
class Due:
    """What a run may delete: rows of a table whose time is before the limit.

    `references` to these rows from other tables are set to NULL.
    """

    expiring: ExpiringTable
    limit: datetime
    references: tuple[Reference, ...] = ()

    @property
    def scope(self) -> ColumnElement[bool]:
        """Whether a row is due."""
        condition = self.expiring.condition
        return and_(self.expiring.time < self.limit, true() if condition is None else condition)


@dataclass(frozen=True)
class TimeRange:
    """Rows with `since <= time < until`; `after` excludes `since`, and None means no bound."""

    since: str | None
    until: str | None
    after: bool = False

    def scope(self, due: Due) -> ColumnElement[bool]:
        """Return which rows of the table are due and in the range."""
        until = true() if self.until is None else due.expiring.time < moment(self.until)
        return and_(_start(due, self.since, after=self.after), until, due.scope)


@dataclass(frozen=True)
class EqualTime:
    """Rows that share one time; at most `max_rows` of them are deleted at once."""

    time: str
    max_rows: int

    def scope(self, due: Due) -> ColumnElement[bool]:
        """Return which rows of the table are due and have this time."""
        return and_(due.expiring.time == moment(self.time), due.scope)


@dataclass(frozen=True)
class BlockRange:
    """Rows in the heap blocks from `first` up to, not including, `end`."""

    first: int
    end: int

    def scope(self, due: Due) -> ColumnElement[bool]:
        """Return which rows of the table are due and in the range (a Tid Range Scan)."""
        ctid = f"{due.expiring.table.name}.ctid"
        return and_(
            text(f"{ctid} >= '({self.first},0)'::tid"),
            text(f"{ctid} < '({self.end},0)'::tid"),
            due.scope,
        )


Range = TimeRange | EqualTime | BlockRange


@dataclass(frozen=True)
class Step:
    """The next range of a scan, and where the scan continues; None at its end."""

    rows: Range
    following: "Scan | None"


@dataclass(frozen=True)
class TimeScan:
    """A scan in the order of time that has reached `since`, or with `after` has passed it."""

    since: str | None
    after: bool = False

    def step(self, connection: Connection, due: Due, rows: int) -> Step:
        """Return the range of the next `rows` rows; only the index is read."""
        column = due.expiring.time
        ahead = select(cast(column, Text)).where(
            _start(due, self.since, after=self.after), column < due.limit
        )
        edge: str | None = connection.execute(
            ahead.order_by(column).offset(rows).limit(1)
        ).scalar_one_or_none()
        if edge is None:
            return Step(TimeRange(self.since, None, self.after), None)
        if edge != self.since:
            return Step(TimeRange(self.since, edge, self.after), TimeScan(edge))
        # More rows than a batch may have share one time: they are deleted in several batches.
        return Step(EqualTime(edge, rows), TimeScan(edge, after=True))

    def rest(self, _connection: Connection, _due: Due) -> Range:
        """Return everything that the scan has not reached."""
        return TimeRange(self.since, None, self.after)


@dataclass(frozen=True)
class BlockScan:
    """A scan in the order of heap blocks that has reached block `first`."""

    first: int
    end: int
    extended: bool = False

    def step(self, connection: Connection, due: Due, blocks: int) -> Step:
        """Return the range of the next `blocks` blocks.

        The end is extended once by the blocks that the table has grown by, because an UPDATE may
        have moved rows there.
        """
        rows = BlockRange(self.first, min(self.first + blocks, self.end))
        if rows.end < self.end:
            return Step(rows, BlockScan(rows.end, self.end, self.extended))
        now = self.end if self.extended else block_count(connection, due)
        return Step(rows, BlockScan(self.end, now, extended=True) if now > self.end else None)

    def rest(self, connection: Connection, due: Due) -> Range:
        """Return everything that the scan has not reached."""
        return BlockRange(self.first, max(self.end, block_count(connection, due)))


Scan = TimeScan | BlockScan


def _start(due: Due, since: str | None, *, after: bool) -> ColumnElement[bool]:
    if since is None:
        return true()
    column = due.expiring.time
    return column > moment(since) if after else column >= moment(since)


def block_count(connection: Connection, due: Due) -> int:
    """Return how many heap blocks the table has now."""
    size = "pg_relation_size(to_regclass(:table)) / current_setting('block_size')::bigint"
    found = connection.execute(text(f"SELECT {size}"), {"table": due.expiring.table.name})
    blocks: int = found.scalar_one()
    return blocks
