"""Passes over the stamped rows of a table, in the order of their identifiers.

There may be many, and nearly all of them hold nothing any more. One sequential scan finds up to
PASS_ROWS of them, as `by_table` does; they are looked at in portions, by index.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Engine, select

from maintenance.errors import StatementTimeout
from maintenance.report import BatchResult
from tasks.batching.slices import Batch
from tasks.batching.table_scan import ScanCursor, read_ids

PASS_ROWS = 1_000_000
"""Rows that one scan finds; 16 MB of identifiers."""


@dataclass(frozen=True)
class StampedCursor:
    """The rows of the current pass, and where the next pass begins.

    Attributes:
        ids: the rows that the pass has found, and how many of them have been looked at.
        after: the last one of them; None before the first pass.
        last: whether no pass follows.
    """

    ids: ScanCursor = field(default_factory=ScanCursor)
    after: UUID | None = None
    last: bool = False


def by_stamped(
    engine: Engine,
    key: Column[Any],
    stamped: ColumnElement[bool],
    act: Callable[[Sequence[UUID]], BatchResult],
) -> Callable[[StampedCursor | None, int], Batch[StampedCursor]]:
    """Act on the rows of a table that are stamped, in portions.

    Args:
        engine: the database.
        key: the identifier of the rows; names the table, too.
        stamped: which rows are stamped; uses the columns of this table.
        act: acts on these rows; checks the condition again.
    """

    def one_batch(cursor: StampedCursor | None, rows: int) -> Batch[StampedCursor]:
        result = BatchResult()
        cursor = cursor or StampedCursor()
        if cursor.ids.passed and not cursor.last:
            cursor = _next_pass(engine, key, stamped, cursor, result)
        ids, rest = cursor.ids.take(rows)
        if ids:
            result += act(ids)
        following = StampedCursor(rest, cursor.after, cursor.last)
        return Batch(result, following, exhausted=rest.passed and cursor.last)

    return one_batch


def _next_pass(
    engine: Engine,
    key: Column[Any],
    stamped: ColumnElement[bool],
    cursor: StampedCursor,
    result: BatchResult,
) -> StampedCursor:
    query = select(key).where(stamped).order_by(key).limit(PASS_ROWS)
    if cursor.after is not None:
        query = query.where(key > cursor.after)
    try:
        ids = read_ids(engine, query, in_order=True)
    except StatementTimeout as error:
        result.warnings.append(f"{key.table.name} was not searched for residue: {error}")
        return StampedCursor(last=True)
    after = ids[-1] if ids else cursor.after
    return StampedCursor(ScanCursor.of(ids), after, last=len(ids) < PASS_ROWS)
