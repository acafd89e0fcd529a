"""One pass over a whole table, for selections that no index serves (SPEC 10.11).

A sequential scan reads a large table through a ring buffer, so that the application's pages stay in
the cache; a scan by ranges of ctid does not. So the table is read by one plain SELECT with a cursor
in a READ ONLY transaction, which collects the identifiers of the selected rows. They are acted on
in portions, each in transactions of its own, where the condition is checked again.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Engine, Select, select, text

from maintenance import stop_request
from maintenance.database import milliseconds, transaction
from maintenance.errors import StatementTimeout
from maintenance.report import BatchResult
from tasks.batching.slices import Batch

FETCHED_ROWS = 10_000

MAX_ROWS = 1_000_000
"""Most rows of one pass; the next pass selects the others."""

SCAN_SECONDS = 120.0
"""Time-out of one fetch: until so many selected rows were found, or the end of the table."""

UUID_BYTES = 16


class ScanCursor:
    """The rows that a pass has selected, and how many of them have been acted on.

    Their identifiers are packed: Prefect inspects what a task is called with, item by item.
    """

    def __init__(self, ids: bytes = b"", start: int = 0) -> None:
        """Keep the packed identifiers, and where the next one starts."""
        self._ids = ids
        self._start = start

    @classmethod
    def of(cls, ids: Iterable[UUID]) -> "ScanCursor":
        """Pack identifiers."""
        return cls(b"".join(one.bytes for one in ids))

    @property
    def passed(self) -> bool:
        """Whether no row is left."""
        return self._start >= len(self._ids)

    def take(self, rows: int) -> tuple[list[UUID], "ScanCursor"]:
        """Return the next rows, and the cursor behind them."""
        end = self._start + rows * UUID_BYTES
        packed = self._ids[self._start : end]
        ids = [UUID(bytes=packed[at : at + UUID_BYTES]) for at in range(0, len(packed), UUID_BYTES)]
        return ids, ScanCursor(self._ids, end)

    def again(self) -> "ScanCursor":
        """Return the cursor at the first of the selected rows."""
        return ScanCursor(self._ids)


def by_table(
    engine: Engine,
    key: Column[Any],
    condition: ColumnElement[bool],
    act: Callable[[Sequence[UUID]], BatchResult],
) -> Callable[[ScanCursor | None, int], Batch[ScanCursor]]:
    """Act on the rows of a table that a condition selects.

    The first batch reads the table. When that exceeds the time-out, a warning says so, and the pass
    is over: it must not keep the job from its other work.

    Args:
        engine: the database.
        key: the identifier of the rows; names the table, too.
        condition: uses the columns of this table, and of small ones.
        act: acts on these rows; checks the condition again.
    """

    def one_batch(cursor: ScanCursor | None, rows: int) -> Batch[ScanCursor]:
        if cursor is not None:
            return act_on_next(cursor, rows, act)
        result = BatchResult()
        try:
            query = select(key).where(condition).limit(MAX_ROWS)
            found = ScanCursor.of(read_ids(engine, query))
        except StatementTimeout as error:
            found = ScanCursor()
            result.warnings.append(
                f"{key.table.name} was not searched for rows without a deadline or a queued purge:"
                f' {error}; see "Indexes" in docs/performance.md'
            )
        return Batch(result, found, exhausted=found.passed)

    return one_batch


def act_on_next(
    cursor: ScanCursor, rows: int, act: Callable[[Sequence[UUID]], BatchResult]
) -> Batch[ScanCursor]:
    """Act on the next rows of a pass."""
    ids, rest = cursor.take(rows)
    return Batch(act(ids), rest, exhausted=rest.passed)


def read_ids(engine: Engine, query: Select[UUID], *, in_order: bool = False) -> list[UUID]:
    """Return the identifiers that one scan of a table selects; fewer after a stop request.

    Args:
        engine: the database.
        query: what is selected.
        in_order: the query has an order, for which PostgreSQL would follow an index through the
            whole table; it sorts instead.

    Raises:
        StatementTimeout: a fetch took longer than SCAN_SECONDS.
        DatabaseError: the statement failed.
    """
    ids: list[UUID] = []
    with transaction(engine, read_only=True) as connection:
        timeout = milliseconds(SCAN_SECONDS)
        connection.execute(text(f"SET LOCAL statement_timeout = {timeout}"))
        # One process: the workers of a parallel scan would take the connections of others.
        connection.execute(text("SET LOCAL max_parallel_workers_per_gather = 0"))
        if in_order:
            connection.execute(text("SET LOCAL enable_indexscan = off"))
        rows = connection.execution_options(yield_per=FETCHED_ROWS).execute(query)
        for part in rows.scalars().partitions():
            ids += part
            if stop_request.requested():
                break
    return ids
