"""Bisection: a batch that the database refuses is split until the poison row is alone."""

from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID

from maintenance import stop_request
from maintenance.errors import LockTimeout, RowRefused, StatementTimeout
from maintenance.report import BatchResult

T = TypeVar("T")
Fault = RowRefused | LockTimeout | StatementTimeout
FAULTS = (RowRefused, LockTimeout, StatementTimeout)
"""Errors that one row of a batch may be the cause of."""


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
    except FAULTS as fault:
        return split(items, fault, attempt, alone)


def split(
    items: Sequence[T],
    fault: Fault,
    attempt: Callable[[Sequence[T]], BatchResult],
    alone: Callable[[T, Fault], BatchResult],
) -> BatchResult:
    """Attempt the halves of a batch that was refused with `fault`.

    After a stop request the second half is left for the next run.
    """
    if len(items) == 1:
        return alone(items[0], fault)
    middle = len(items) // 2
    result = bisect(items[:middle], attempt, alone)
    if not stop_request.requested():
        result += bisect(items[middle:], attempt, alone)
    return result


def blame(kind: str, key: UUID, fault: Fault) -> BatchResult:
    """Return the result of one item alone: deferred when it is locked, failed otherwise.

    Args:
        kind: what the item is called in the report.
        key: its identifier.
        fault: why its batch was refused.
    """
    result = BatchResult.selecting([key.int])
    if isinstance(fault, LockTimeout):
        result.deferred = 1
    else:
        result.fail(f"{kind} {key}", str(fault))
    return result
