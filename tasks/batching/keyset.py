"""Places in the order of a selection: a moment, and the identifier that breaks ties (keyset)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    and_,
    literal,
    select,
    text,
    true,
    tuple_,
)


@dataclass(frozen=True)
class KeysetCursor:
    """The last item that was met; the next one comes after it."""

    moment: datetime
    id: UUID


@dataclass(frozen=True)
class KeysetOrder:
    """The two columns that a selection is ordered by."""

    moment: Column[Any]
    id: Column[Any]

    def after(self, place: KeysetCursor | None) -> ColumnElement[bool]:
        """Return whether a row comes after the place."""
        if place is None:
            return true()
        return tuple_(self.moment, self.id) > tuple_(literal(place.moment), literal(place.id))

    def within(self, place: KeysetCursor | None, edge: KeysetCursor | None) -> ColumnElement[bool]:
        """Return whether a row comes after the place, and not after the edge."""
        if edge is None:
            return self.after(place)
        upper = tuple_(self.moment, self.id) <= tuple_(literal(edge.moment), literal(edge.id))
        return and_(self.after(place), upper)

    def edge(
        self,
        connection: Connection,
        scope: ColumnElement[bool],
        place: KeysetCursor | None,
        rows: int,
    ) -> KeysetCursor | None:
        """Return the last place of the next page of `rows` rows in scope, None for the end."""
        found = connection.execute(
            select(self.moment, self.id)
            .where(scope, self.after(place))
            .order_by(self.moment, self.id)
            .offset(rows - 1)
            .limit(1)
        ).first()
        return KeysetCursor(found[0], found[1]) if found else None


@dataclass(frozen=True)
class BlockCursor:
    """A place in a pass over a whole table: the next heap block, and where the pass ends.

    For what no index leads to: one pass over the table in bounded statements, each a range of
    the rows' physical places.
    """

    block: int
    end: int

    @property
    def passed(self) -> bool:
        """Whether the pass is over."""
        return self.block >= self.end

    def next(self) -> "BlockCursor":
        """Return the place behind the next range."""
        return BlockCursor(min(self.block + BLOCKS_PER_BATCH, self.end), self.end)

    def scope(self, table: str) -> ColumnElement[bool]:
        """Return whether a row of the table lies in the next range."""
        return and_(
            text(f"{table}.ctid >= '({self.block},0)'::tid"),
            text(f"{table}.ctid < '({self.next().block},0)'::tid"),
        )


BLOCKS_PER_BATCH = 2_000
"""16 MB of a table at PostgreSQL's usual block size."""


def whole_table(connection: Connection, table: str) -> BlockCursor:
    """Return the pass over all blocks that a table has now."""
    size = "pg_relation_size(CAST(:name AS regclass)) / current_setting('block_size')::bigint"
    return BlockCursor(0, connection.execute(text(f"SELECT {size}"), {"name": table}).scalar_one())
