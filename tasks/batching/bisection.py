"""Bisection: a batch that the database refuses is split until the poison row is alone."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from maintenance.errors import LockTimeout, RowRefused
from maintenance.report import BatchResult

T = TypeVar("T")
Fault = RowRefused | LockTimeout


def bisect(
    items: Sequence[T],
    attempt: Callable[[Sequence[T]], BatchResult],
    alone: Callable[[T, Fault], BatchResult],
) -> BatchResult:
    """Attempt a batch in a transaction of its own; in halves, when one of its rows is refused.

    Args:
        items: the batch.
        attempt: works on these items in one transaction; a fault has rolled it back.
        alone: returns the result of the one item that is at fault.
    """
    try:
        return attempt(items)
    except (RowRefused, LockTimeout) as fault:
        return split(items, fault, attempt, alone)


def split(
    items: Sequence[T],
    fault: Fault,
    attempt: Callable[[Sequence[T]], BatchResult],
    alone: Callable[[T, Fault], BatchResult],
) -> BatchResult:
    """Attempt the halves of a batch that was refused with `fault`."""
    if len(items) == 1:
        return alone(items[0], fault)
    middle = len(items) // 2
    result = bisect(items[:middle], attempt, alone)
    result += bisect(items[middle:], attempt, alone)
    return result
