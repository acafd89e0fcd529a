"""One row's fault is that row's: a batch that the database refuses is split until it is one."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from maintenance.errors import LockTimeout, RowRefused
from maintenance.report import BatchResult

T = TypeVar("T")
Fault = RowRefused | LockTimeout


def bisect(
    items: Sequence[T],
    fault: Fault,
    again: Callable[[Sequence[T]], BatchResult],
    alone: Callable[[T, Fault], BatchResult],
) -> BatchResult:
    """Do a refused batch again in halves.

    Args:
        items: what the batch had claimed; it was rolled back.
        fault: why.
        again: claims these items again and does them, isolating further when it must.
        alone: judges the one item that is at fault.
    """
    if len(items) == 1:
        return alone(items[0], fault)
    middle = len(items) // 2
    result = again(items[:middle])
    result += again(items[middle:])
    return result
