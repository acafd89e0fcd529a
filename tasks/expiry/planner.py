"""Chooses between a time scan and a block scan by the table's statistics.

Measured (docs/decisions/0004): where most rows are due, a block scan costs about as much as one
plain DELETE, whatever the order of the rows. A time scan costs slightly more when the rows lie in
the order of their time, and several times as much when they are scattered. Where few rows are due,
a block scan reads many blocks without any.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, select
from sqlalchemy import text as sql

from maintenance.indexes import has_time_index
from tasks.expiry.ranges import BlockScan, Due, Scan, TimeScan, block_count
from tasks.expiry.statements import time_span

SMALL_TABLE_BLOCKS = 128
"""1 MB: below it the choice does not matter, and the time scan is used."""

MAX_ROWS_PER_BLOCK = 291
"""The most rows that a block of 8 kB can hold; smaller batches cannot be cut by blocks."""

MIN_ORDERED_CORRELATION = 0.9
"""From this correlation on, rows count as being in the order of their time."""

MOST_ROWS_SHARE = 0.5
"""When this share of the rows is due, reading the whole table costs less than using the index."""

FACTS = sql(
    "SELECT c.reltuples AS rows, c.relpages AS blocks, s.correlation FROM pg_class c"
    " LEFT JOIN pg_stats s ON s.schemaname = c.relnamespace::regnamespace::name"
    " AND s.tablename = c.relname AND s.attname = :column"
    " WHERE c.oid = to_regclass(:table)"
)


FIRST_ROWS = 1_000
MIN_FIRST_BLOCKS = 40
"""Size of a run's first batch; it at most doubles from batch to batch."""

Span = tuple[str | None, str | None]
"""The oldest and the newest time of the rows that are due, as PostgreSQL's text."""


@dataclass(frozen=True)
class Plan:
    """How a pass scans the table.

    Attributes:
        scan: where it starts; None when nothing is due.
        max_size: most rows or blocks of a batch.
        first_size: rows or blocks of the first batch.
        span: the oldest and newest time that are due.
    """

    scan: Scan | None
    max_size: int
    first_size: int
    span: Span


@dataclass(frozen=True)
class TableFacts:
    """What the choice is based on.

    Attributes:
        blocks: the table's present size.
        rows_per_block: average when the table was last analyzed; 0 when it never was.
        correlation: order of the rows by their time, -1 to 1; None when unknown.
        due_rows: the planner's estimate of the rows that are due.
        indexed: whether the time has an index.
    """

    blocks: int
    rows_per_block: float
    correlation: float | None
    due_rows: float
    indexed: bool

    def by_blocks(self, batch_rows: int) -> bool:
        """Return whether a block scan is the better choice."""
        if not self.indexed:
            return True
        if self.blocks < SMALL_TABLE_BLOCKS or batch_rows < MAX_ROWS_PER_BLOCK:
            return False
        if not self.rows_per_block or self.correlation is None:
            return False
        if self.due_rows >= MOST_ROWS_SHARE * self.blocks * self.rows_per_block:
            return True
        ordered = abs(self.correlation) >= MIN_ORDERED_CORRELATION
        return not ordered and self.due_rows >= self.blocks

    def blocks_of(self, rows: int) -> int:
        """Return how many blocks hold at most `rows` rows on average; at least one."""
        return max(1, int(rows / (self.rows_per_block or MAX_ROWS_PER_BLOCK)))


def facts_of(connection: Connection, due: Due) -> TableFacts:
    """Read the facts from the catalogue and the planner."""
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


def plan(connection: Connection, due: Due, batch_rows: int) -> Plan:
    """Choose the scan of a pass.

    A time scan starts at the oldest row, so that no batch has to pass the dead index entries of
    earlier runs.
    """
    facts = facts_of(connection, due)
    span = time_span(connection, due, due.scope) if facts.indexed else (None, None)
    oldest, _ = span
    by_blocks = not facts.indexed or (oldest is not None and facts.by_blocks(batch_rows))
    if not by_blocks:
        scan = None if oldest is None else TimeScan(oldest)
        return Plan(scan, batch_rows, min(batch_rows, FIRST_ROWS), span)
    max_blocks = facts.blocks_of(batch_rows)
    first_blocks = min(max_blocks, max(MIN_FIRST_BLOCKS, facts.blocks_of(FIRST_ROWS)))
    return Plan(
        BlockScan(0, facts.blocks) if facts.blocks else None, max_blocks, first_blocks, span
    )
