"""References to deleted rows from other tables: set to NULL with the DELETE (SPEC 7).

Django does the same (SET_NULL). Without it the foreign key refuses the whole DELETE at COMMIT. One
statement deletes the rows and frees those that name them: bounded by the batch, and found by the
index of the referring column.

A row that names a deleted one, and that the application commits between the statement and its
COMMIT, makes the COMMIT fail. The batch is repeated, and then finds that row.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    Engine,
    Select,
    any_,
    func,
    null,
    select,
    update,
)

from maintenance.database import transaction
from maintenance.expiring import ExpiringTable
from maintenance.indexes import has_index
from maintenance.schema.versions import exists_in, live_version


@dataclass(frozen=True)
class Reference:
    """A column that refers to the rows that are deleted, and whether it has an index."""

    column: Column[Any]
    indexed: bool

    @property
    def table(self) -> str:
        """The table of the column."""
        name: str = self.column.table.name
        return name

    def names(self, ids: Select[Any]) -> ColumnElement[bool]:
        """Return whether the column names one of the rows with these keys.

        An array of keys is searched for by the index, even when statistics are stale. Without an
        index the table is read once, not once for each key.
        """
        if self.indexed:
            return self.column == any_(func.array(ids.scalar_subquery()))
        return self.column.in_(ids)

    def freed(self, ids: Select[Any]) -> CTE:
        """Return the UPDATE that frees the rows which name these; one row for each freed."""
        return self._free(self.names(ids))

    def freed_unlocked(self, ids: Select[Any]) -> tuple[CTE, Select[Any]]:
        """Do the same with the rows that are not locked, without waiting.

        Returns:
            The UPDATE; and a SELECT of the keys that locked rows name, and that must stay.
        """
        key = self.column.table.c.id
        unlocked = (
            select(key, self.column.label("names"))
            .where(self.names(ids))
            .with_for_update(of=self.column.table, skip_locked=True)
            .cte(f"unlocked_{self.table}")
        )
        keys = func.array(select(unlocked.c.id).scalar_subquery())
        held = select(self.column).where(
            self.names(ids), self.column.not_in(select(unlocked.c.names))
        )
        return self._free(key == any_(keys)), held

    def _free(self, which: ColumnElement[bool]) -> CTE:
        statement = update(self.column.table).where(which).values({self.column: null()})
        return statement.returning(self.column).cte(f"freed_{self.table}")


def live_references(engine: Engine, expiring: ExpiringTable) -> tuple[Reference, ...]:
    """Return the references that exist in this database.

    Raises:
        DatabaseError: the statement failed.
    """
    if not expiring.set_null:
        return ()
    with transaction(engine, read_only=True) as connection:
        version = live_version(connection)
        return tuple(
            Reference(column, has_index(connection, column.table.name, column.name))
            for column in expiring.set_null
            if exists_in(version, column.table.name, column.name)
        )
