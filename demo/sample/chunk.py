"""The rows and files of one transaction, and the counts of the whole sample."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import count

from sqlalchemy import Boolean, String, Table
from sqlalchemy.dialects.postgresql import JSONB

from demo.sample.drawing import Draw, Moments
from demo.sample.spec import SampleSpec
from maintenance.schema.base import NEWEST, Version

Value = str | int | bool | None
"""A column's value as COPY takes it; times, UUIDs and JSON are text."""
Row = tuple[Value, ...]
"""One row, in the order of the table's columns."""
Rows = defaultdict[Table, list[Row]]
Files = list[tuple[str, bytes]]
"""Paths below the storage root, and contents."""


@cache
def _names(table: Table) -> tuple[str, ...]:
    return tuple(table.columns.keys())


@cache
def _blank(table: Table) -> dict[str, Value]:
    """Return a row as Django leaves it when nothing is filled in: NULL where allowed, or empty."""
    blank: dict[str, Value] = {}
    for column in table.columns:
        if column.nullable:
            blank[column.name] = None
        elif isinstance(column.type, Boolean):
            blank[column.name] = False
        elif isinstance(column.type, String):
            blank[column.name] = ""
        elif isinstance(column.type, JSONB):
            blank[column.name] = "{}"
    return blank


class Chunk:
    """Rows and files of one transaction, gathered until `take` hands them over."""

    def __init__(
        self, spec: SampleSpec, draw: Draw, moments: Moments, version: Version = NEWEST
    ) -> None:
        self.spec = spec
        self.version = version
        """Of the tables that the rows are for."""
        self.draw = draw
        self.moments = moments
        self.tally: Counter[str] = Counter()
        """Counts for the summary, by the names of its fields."""
        self._rows: Rows = defaultdict(list)
        self._files: Files = []
        self._numbers: defaultdict[Table, Iterator[int]] = defaultdict(lambda: count(1))

    def number(self, table: Table) -> int:
        """Take the next value of the table's identity key."""
        return next(self._numbers[table])

    def add(self, table: Table, /, **values: Value) -> None:
        """Add a row.

        Columns that are not named stay blank; `modified` is then the same as `created`.

        Raises:
            KeyError: a column without a blank value is missing.
            TypeError: the table has no such column.
        """
        row = {**_blank(table), **values}
        if "created" in values:
            row.setdefault("modified", values["created"])
        names = _names(table)
        if len(row) > len(names):
            raise TypeError(f"{table.name} has no columns {row.keys() - set(names)}")
        self._rows[table].append(tuple([row[name] for name in names]))

    def add_numbered(self, table: Table, /, **values: Value) -> int:
        """Add a row under the next value of the identity key, and return that."""
        number = self.number(table)
        self.add(table, id=number, **values)
        return number

    def file(self, path: str, content: bytes) -> None:
        """Add a file, unless the spec asks for none."""
        if self.spec.with_files:
            self._files.append((path, content))

    def take(self) -> tuple[Rows, Files]:
        """Return what was gathered and start empty; numbers and counts continue."""
        taken = self._rows, self._files
        self._rows, self._files = defaultdict(list), []
        return taken
