"""The two ways through a selection: page by page in its order, or block by block of a table.

Each returns the function that does one batch, for `work_slice`.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, Select

from maintenance.database import transaction
from maintenance.report import BatchResult
from tasks.batching.keyset import BlockCursor, KeysetCursor, KeysetOrder, whole_table
from tasks.batching.slices import Batch


class Item(Protocol):
    """What a page is made of."""

    id: UUID
    moment: datetime


def by_page(
    selection: Select[Any],
    order: KeysetOrder,
    act: Callable[[Select[Any]], tuple[Sequence[Item], BatchResult]],
) -> Callable[[KeysetCursor | None, int], Batch[KeysetCursor]]:
    """Act on a selection page by page; `act` returns the page's items in their order."""

    def one_batch(place: KeysetCursor | None, rows: int) -> Batch[KeysetCursor]:
        items, result = act(selection.where(order.after(place)).limit(rows))
        if items:
            place = KeysetCursor(items[-1].moment, items[-1].id)
        return Batch(result, place, exhausted=len(items) < rows)

    return one_batch


def by_block(
    engine: Engine,
    table: str,
    act: Callable[[Connection, ColumnElement[bool]], BatchResult],
    *,
    read_only: bool = False,
) -> Callable[[BlockCursor | None, int], Batch[BlockCursor]]:
    """Act on a table range by range, each in a transaction of its own; `act` is told the range."""

    def one_batch(place: BlockCursor | None, _rows: int) -> Batch[BlockCursor]:
        with transaction(engine, read_only=read_only) as connection:
            here = place or whole_table(connection, table)
            result = act(connection, here.scope(table))
        return Batch(result, here.next(), exhausted=here.next().passed)

    return one_batch
