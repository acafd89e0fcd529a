"""What the builders fill: the rows and files of one transaction, and the counts of the whole."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from operator import itemgetter

from sqlalchemy import Table

from demo.sample.drawing import Draw, Moments
from demo.sample.spec import SampleSpec

Value = str | int | bool | None
"""A column's value as COPY takes it; times, UUIDs and JSON are text."""
Row = tuple[Value, ...]
"""One row, in the order of the table's columns."""
Rows = defaultdict[Table, list[Row]]
Files = list[tuple[str, bytes]]
"""Paths below the storage root, and contents."""


@cache
def _in_order(table: Table) -> Callable[[dict[str, Value]], Row]:
    return itemgetter(*table.columns.keys())


class Chunk:
    """The place where rows and files gather until they are taken away to be written."""

    def __init__(self, spec: SampleSpec, draw: Draw, moments: Moments) -> None:
        self.spec = spec
        self.draw = draw
        self.moments = moments
        self.tally: Counter[str] = Counter()
        """What is known of the rows, by the names of the summary's fields."""
        self._rows: Rows = defaultdict(list)
        self._files: Files = []
        self._numbers: defaultdict[Table, Iterator[int]] = defaultdict(lambda: count(1))

    def number(self, table: Table) -> int:
        """Take the next value of the table's identity key."""
        return next(self._numbers[table])

    def add(self, table: Table, /, **values: Value) -> None:
        """Add a row; every column needs its value."""
        self._rows[table].append(_in_order(table)(values))

    def file(self, path: str, content: bytes) -> None:
        """Add a file, when files are wanted."""
        if self.spec.with_files:
            self._files.append((path, content))

    def take(self) -> tuple[Rows, Files]:
        """Hand over what has gathered, and begin anew; numbers and counts go on."""
        taken = self._rows, self._files
        self._rows, self._files = defaultdict(list), []
        return taken
