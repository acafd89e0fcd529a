"""The two ways through the rows that are due, each in stretches of bounded size.

By time: a stretch is a range of the time's index, up to the time of the n-th row behind it. It
reads only what goes, but where the rows lie scattered over the table it visits a block for each.

By blocks: a stretch is a range of heap blocks. It reads the whole table once, each block once.

Both move on with every stretch, so what is already deleted is never read again, however long the
database must keep it for somebody's old snapshot. docs/decisions/0004 has the measurements.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, select, text, true

from maintenance.expiring import ExpiringTable

TICK = timedelta(microseconds=1)
"""The resolution of PostgreSQL's times."""


@dataclass(frozen=True)
class Due:
    """What a run may delete: rows of a table whose time is before the limit."""

    expiring: ExpiringTable
    limit: datetime

    @property
    def scope(self) -> ColumnElement[bool]:
        """Whether a row is due."""
        condition = self.expiring.condition
        return and_(self.expiring.time < self.limit, true() if condition is None else condition)


@dataclass(frozen=True)
class TimeRange:
    """The rows from one moment up to, not including, another; `at_most` so many of them."""

    since: datetime
    until: datetime
    at_most: int | None = None

    def scope(self, due: Due) -> ColumnElement[bool]:
        """Return which rows of the table are due and in the stretch."""
        column = due.expiring.time
        return and_(column >= self.since, column < self.until, due.scope)


@dataclass(frozen=True)
class BlockRange:
    """The rows in heap blocks from one up to, not including, another."""

    first: int
    behind: int

    def scope(self, due: Due) -> ColumnElement[bool]:
        """Return which rows of the table are due and in the stretch (a Tid Range Scan)."""
        ctid = f"{due.expiring.table.name}.ctid"
        return and_(
            text(f"{ctid} >= '({self.first},0)'::tid"),
            text(f"{ctid} < '({self.behind},0)'::tid"),
            due.scope,
        )


Range = TimeRange | BlockRange


@dataclass(frozen=True)
class Step:
    """A stretch to work on, and where the walk goes on; None at its end."""

    stretch: Range
    following: "Scan | None"


@dataclass(frozen=True)
class TimeScan:
    """A place in the order of time: everything before it is done."""

    since: datetime

    def step(self, connection: Connection, due: Due, rows: int) -> Step:
        """Return the stretch of the next `rows` rows, found without reading them twice."""
        column = due.expiring.time
        ahead = select(column).where(column >= self.since, column < due.limit)
        edge: datetime | None = connection.execute(
            ahead.order_by(column).offset(rows).limit(1)
        ).scalar_one_or_none()
        if edge is None:
            return Step(TimeRange(self.since, due.limit), None)
        if edge > self.since:
            return Step(TimeRange(self.since, edge), TimeScan(edge))
        # More rows than a batch may have share one time: they are taken piece by piece.
        return Step(TimeRange(self.since, self.since + TICK, rows), TimeScan(self.since + TICK))

    def rest(self, _connection: Connection, due: Due) -> Range:
        """Return everything that the walk has not reached."""
        return TimeRange(self.since, due.limit)


@dataclass(frozen=True)
class BlockScan:
    """A place in the table: every block before it is done."""

    first: int
    end: int
    grown: bool = False

    def step(self, connection: Connection, due: Due, blocks: int) -> Step:
        """Return the next `blocks` blocks.

        At the end come those that the table has grown by, once: rows that somebody updates move
        there.
        """
        stretch = BlockRange(self.first, min(self.first + blocks, self.end))
        if stretch.behind < self.end:
            return Step(stretch, BlockScan(stretch.behind, self.end, self.grown))
        now = self.end if self.grown else block_count(connection, due)
        return Step(stretch, BlockScan(self.end, now, grown=True) if now > self.end else None)

    def rest(self, connection: Connection, due: Due) -> Range:
        """Return everything that the walk has not reached."""
        return BlockRange(self.first, max(self.end, block_count(connection, due)))


Scan = TimeScan | BlockScan


def block_count(connection: Connection, due: Due) -> int:
    """Return how many heap blocks the table has now."""
    size = "pg_relation_size(to_regclass(:table)) / current_setting('block_size')::bigint"
    found = connection.execute(text(f"SELECT {size}"), {"table": due.expiring.table.name})
    blocks: int = found.scalar_one()
    return blocks
