"""Which way through a table is cheaper, by what the database knows of it.

Measured (docs/decisions/0004): by blocks costs about as much as one plain DELETE wherever most
rows go, in whatever order they lie; by time costs a little more than that in the order of the
times, and several times as much where the rows are scattered. Where few rows go, the blocks
without any would be read for nothing.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy import text as sql

from maintenance.indexes import has_time_index
from tasks.expiry.ranges import BlockScan, Due, Scan, TimeScan, block_count
from tasks.expiry.statements import time_range

SMALL_TABLE_BLOCKS = 128
"""1 MB: below it nothing is worth a thought."""

ROWS_OF_A_BLOCK = 291
"""The most rows that a block of 8 kB can hold; smaller batches cannot be cut by blocks."""

ORDERED = 0.9
"""From this correlation on, rows lie in the order of their time."""

MOST = 0.5
"""When this share of the table goes, reading all of it costs less than the index."""

FACTS = sql(
    "SELECT c.reltuples AS rows, c.relpages AS blocks, s.correlation FROM pg_class c"
    " LEFT JOIN pg_stats s ON s.schemaname = c.relnamespace::regnamespace::name"
    " AND s.tablename = c.relname AND s.attname = :column"
    " WHERE c.oid = to_regclass(:table)"
)


Span = tuple[datetime | None, datetime | None]
"""The oldest and the newest time of the rows that are due."""


@dataclass(frozen=True)
class TableFacts:
    """What the database knows of a table.

    Attributes:
        blocks: its size now.
        rows_per_block: on average, when it was last analyzed; 0 when it never was.
        correlation: how far rows lie in the order of their time, -1 to 1; None when unknown.
        due_rows: the planner's estimate of the rows that are due.
        indexed: whether the time has an index.
    """

    blocks: int
    rows_per_block: float
    correlation: float | None
    due_rows: float
    indexed: bool

    def by_blocks(self, batch_rows: int) -> bool:
        """Return whether the table is better walked by blocks."""
        if not self.indexed:
            return True
        if self.blocks < SMALL_TABLE_BLOCKS or batch_rows < ROWS_OF_A_BLOCK:
            return False
        if not self.rows_per_block or self.correlation is None:
            return False
        if self.due_rows >= MOST * self.blocks * self.rows_per_block:
            return True
        return abs(self.correlation) < ORDERED and self.due_rows >= self.blocks

    def blocks_of(self, rows: int) -> int:
        """Return how many blocks hold at most so many rows on average; at least one."""
        return max(1, int(rows / (self.rows_per_block or ROWS_OF_A_BLOCK)))


def facts_of(connection: Connection, due: Due) -> TableFacts:
    """Ask the database."""
    names = {"table": due.expiring.table.name, "column": due.expiring.time.name}
    known = connection.execute(FACTS, names).one()
    return TableFacts(
        blocks=block_count(connection, due),
        rows_per_block=known.rows / known.blocks if known.rows > 0 and known.blocks else 0.0,
        correlation=known.correlation,
        due_rows=estimated_rows(connection, due),
        indexed=has_time_index(connection, due.expiring),
    )


def estimated_rows(connection: Connection, due: Due) -> float:
    """Return the planner's estimate of the rows whose time is before the limit."""
    query = select(due.expiring.time).where(due.expiring.time < due.limit)
    plain = query.compile(connection, compile_kwargs={"literal_binds": True})
    plans = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {plain}").scalar_one()
    rows: float = plans[0]["Plan"]["Plan Rows"]
    return rows


def start_of(connection: Connection, due: Due, batch_rows: int) -> tuple[Scan | None, int, Span]:
    """Return where a run starts, the most rows or blocks of its batches, and what times are due.

    Nothing to do is None. By time, the start is the oldest row, so that no batch has to pass what
    earlier runs have left behind in the index.
    """
    facts = facts_of(connection, due)
    span = time_range(connection, due, due.scope) if facts.indexed else (None, None)
    oldest, _ = span
    if facts.indexed and oldest is None:
        return None, batch_rows, span
    if oldest is None or facts.by_blocks(batch_rows):
        walk = BlockScan(0, facts.blocks) if facts.blocks else None
        return walk, facts.blocks_of(batch_rows), span
    return TimeScan(oldest), batch_rows, span
