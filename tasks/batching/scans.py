"""Ways through an ordered selection, page by page.

Each returns the function that works on one batch, for `work_slice`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select

from maintenance.database import transaction
from maintenance.report import BatchResult
from tasks.batching.claims import Item
from tasks.batching.keyset import KeysetCursor, KeysetOrder
from tasks.batching.scopes import ScopeWork, work_scope
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
    work: ScopeWork, scope: ColumnElement[bool], order: KeysetOrder
) -> Callable[[KeysetCursor | None, int], Batch[KeysetCursor]]:
    """Act on the rows in scope page by page; for pages that are mostly read."""

    def one_batch(cursor: KeysetCursor | None, rows: int) -> Batch[KeysetCursor]:
        with transaction(work.engine, read_only=True) as connection:
            edge = order.edge(connection, scope, cursor, rows)
        result = work_scope(work, scope & order.within(cursor, edge))
        return Batch(result, edge, exhausted=edge is None)

    return one_batch
