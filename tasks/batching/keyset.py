"""Cursors: where the next batch of a selection, or of a whole table, starts."""

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
    """The last row of a page: its time, and its identifier, which breaks ties."""

    moment: datetime
    id: UUID


@dataclass(frozen=True)
class KeysetOrder:
    """The two columns that a selection is ordered by: a time and an identifier."""

    moment: Column[Any]
    id: Column[Any]

    def after(self, cursor: KeysetCursor | None) -> ColumnElement[bool]:
        """Return whether a row comes after the cursor."""
        if cursor is None:
            return true()
        return tuple_(self.moment, self.id) > tuple_(literal(cursor.moment), literal(cursor.id))

    def within(self, cursor: KeysetCursor | None, edge: KeysetCursor | None) -> ColumnElement[bool]:
        """Return whether a row comes after the cursor, and not after the edge."""
        if edge is None:
            return self.after(cursor)
        upper = tuple_(self.moment, self.id) <= tuple_(literal(edge.moment), literal(edge.id))
        return and_(self.after(cursor), upper)

    def edge(
        self,
        connection: Connection,
        scope: ColumnElement[bool],
        cursor: KeysetCursor | None,
        rows: int,
    ) -> KeysetCursor | None:
        """Return the cursor at the end of the next page of `rows` rows in scope.

        None: fewer rows are left.
        """
        found = connection.execute(
            select(self.moment, self.id)
            .where(scope, self.after(cursor))
            .order_by(self.moment, self.id)
            .offset(rows - 1)
            .limit(1)
        ).first()
        return KeysetCursor(found[0], found[1]) if found else None


@dataclass(frozen=True)
class BlockCursor:
    """How far a pass over a whole table has come: the next heap block, and the last one.

    For selections that no index serves: one pass over the table in bounded statements, each of
    them a range of blocks.
    """

    block: int
    end: int

    @property
    def passed(self) -> bool:
        """Whether the pass is over."""
        return self.block >= self.end

    def next(self) -> "BlockCursor":
        """Return the cursor behind the next range."""
        return BlockCursor(min(self.block + BLOCKS_PER_BATCH, self.end), self.end)

    def scope(self, table: str) -> ColumnElement[bool]:
        """Return whether a row of the table lies in the next range."""
        return and_(
            text(f"{table}.ctid >= '({self.block},0)'::tid"),
            text(f"{table}.ctid < '({self.next().block},0)'::tid"),
        )


BLOCKS_PER_BATCH = 2_000
"""16 MB of a table at PostgreSQL's default block size."""


def whole_table(connection: Connection, table: str) -> BlockCursor:
    """Return the start of a pass over all blocks that a table has now."""
    size = "pg_relation_size(CAST(:name AS regclass)) / current_setting('block_size')::bigint"
    return BlockCursor(0, connection.execute(text(f"SELECT {size}"), {"name": table}).scalar_one())
