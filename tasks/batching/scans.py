"""The two ways through a selection: page by page in its order, or block by block of a table.

Each returns the function that works on one batch, for `work_slice`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select

from maintenance.database import transaction
from maintenance.report import BatchResult
from tasks.batching.claims import Item
from tasks.batching.keyset import BlockCursor, KeysetCursor, KeysetOrder, whole_table
from tasks.batching.slices import Batch


def by_page(
    selection: Select[Any],
    order: KeysetOrder,
    act: Callable[[Select[Any]], tuple[Sequence[Item], BatchResult]],
) -> Callable[[KeysetCursor | None, int], Batch[KeysetCursor]]:
    """Act on a selection page by page; `act` returns the page's items in their order."""

    def one_batch(cursor: KeysetCursor | None, rows: int) -> Batch[KeysetCursor]:
        items, result = act(selection.where(order.after(cursor)).limit(rows))
        if items:
            cursor = KeysetCursor(items[-1].moment, items[-1].id)
        return Batch(result, cursor, exhausted=len(items) < rows)

    return one_batch


def by_scope(
    engine: Engine,
    scope: ColumnElement[bool],
    order: KeysetOrder,
    act: Callable[[Connection, ColumnElement[bool]], BatchResult],
    *,
    read_only: bool = False,
) -> Callable[[KeysetCursor | None, int], Batch[KeysetCursor]]:
    """Act on the rows in scope page by page, each in a transaction of its own.

    For pages that are mostly read: `act` gets the condition of the page, not its rows.
    """

    def one_batch(cursor: KeysetCursor | None, rows: int) -> Batch[KeysetCursor]:
        with transaction(engine, read_only=read_only) as connection:
            edge = order.edge(connection, scope, cursor, rows)
            result = act(connection, scope & order.within(cursor, edge))
        return Batch(result, edge, exhausted=edge is None)

    return one_batch


def by_block(
    engine: Engine,
    table: str,
    act: Callable[[Connection, ColumnElement[bool]], BatchResult],
    *,
    read_only: bool = False,
) -> Callable[[BlockCursor | None, int], Batch[BlockCursor]]:
    """Act on a table range by range, each in a transaction of its own.

    `act` gets the condition of the range.
    """

    def one_batch(cursor: BlockCursor | None, _rows: int) -> Batch[BlockCursor]:
        with transaction(engine, read_only=read_only) as connection:
            cursor = cursor or whole_table(connection, table)
            result = act(connection, cursor.scope(table))
        return Batch(result, cursor.next(), exhausted=cursor.next().passed)

    return one_batch
