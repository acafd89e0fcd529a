"""Row changes as data: each one can be carried out, or counted without being carried out.

A dry run counts with the very condition that the real run changes with, so the two agree by
construction. Rows that already hold the new values are left alone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Delete, Table, Update, delete, func, or_, select


@dataclass(frozen=True)
class RowUpdate:
    """Set columns of the rows in scope.

    Attributes:
        table: what is changed.
        scope: which rows belong to the items of the batch.
        clears: new values; a row changes only when one of them differs from what it holds.
        stamps: new values without that condition, for rows that the scope says have yet to
            change. They are written without being read.
    """

    table: Table
    scope: ColumnElement[bool]
    clears: Mapping[str, Any] = field(default_factory=dict)
    stamps: Mapping[str, Any] = field(default_factory=dict)

    @property
    def condition(self) -> ColumnElement[bool]:
        """The rows that change."""
        if not self.clears:
            return self.scope
        differs = (self.table.c[name].is_distinct_from(new) for name, new in self.clears.items())
        return self.scope & or_(*differs)

    def statement(self) -> Update:
        """Return the UPDATE."""
        return self.table.update().where(self.condition).values({**self.clears, **self.stamps})


@dataclass(frozen=True)
class RowDeletion:
    """Delete the rows in scope."""

    table: Table
    scope: ColumnElement[bool]

    @property
    def condition(self) -> ColumnElement[bool]:
        """The rows that go."""
        return self.scope

    def statement(self) -> Delete:
        """Return the DELETE."""
        return delete(self.table).where(self.condition)


def apply_changes(
    connection: Connection, changes: Iterable[RowUpdate | RowDeletion]
) -> Counter[str]:
    """Carry the changes out in their order; return the rows changed by table."""
    rows: Counter[str] = Counter()
    for change in changes:
        rows[change.table.name] += connection.execute(change.statement()).rowcount
    return rows


def count_changes(
    connection: Connection, changes: Iterable[RowUpdate | RowDeletion]
) -> Counter[str]:
    """Return the rows that `apply` would change, by table."""
    rows: Counter[str] = Counter()
    for change in changes:
        query = select(func.count()).select_from(change.table).where(change.condition)
        rows[change.table.name] += connection.execute(query).scalar_one()
    return rows
