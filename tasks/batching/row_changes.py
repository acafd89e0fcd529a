"""Row changes as data: each one can be applied, or counted without being applied.

A dry run counts with the condition that the real run changes with, so the two agree. Rows that
already hold the new values are not written.
"""

from collections import Counter
from collections.abc import Mapping
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
            change.
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
        """The rows that are deleted."""
        return self.scope

    def statement(self) -> Delete:
        """Return the DELETE."""
        return delete(self.table).where(self.condition)


Changes = list[RowUpdate | RowDeletion]


def apply_changes(connection: Connection, changes: Changes) -> Counter[str]:
    """Apply the changes in their order; return the number of changed rows by table."""
    rows: Counter[str] = Counter()
    for change in changes:
        rows[change.table.name] += connection.execute(change.statement()).rowcount
    return rows


def count_changes(connection: Connection, changes: Changes) -> Counter[str]:
    """Return the number of rows that `apply_changes` would change, by table."""
    rows: Counter[str] = Counter()
    for change in changes:
        query = select(func.count()).select_from(change.table).where(change.condition)
        rows[change.table.name] += connection.execute(query).scalar_one()
    return rows
