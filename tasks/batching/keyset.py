"""Keyset cursors: where the next page of an ordered selection starts."""

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
