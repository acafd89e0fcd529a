"""Bisection: a batch that the database refuses is split until the poison row is alone.

A batch of which no row is accepted is not tried row by row to its end: after `MOST_REFUSED` rows
only some of the others are, chosen at random, and the rest is left for a later run (SPEC 10.7).
What refuses all rows is no row's fault.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from maintenance import stop_request
from maintenance.errors import LockTimeout, RowRefused, StatementTimeout
from maintenance.report import BatchResult

T = TypeVar("T")
Fault = RowRefused | LockTimeout | StatementTimeout
FAULTS = (RowRefused, LockTimeout, StatementTimeout)
"""Errors that one row of a batch may be the cause of."""

MOST_REFUSED = 50
"""Rows that are tried alone in a batch of which no row has been accepted; then only probes."""
PROBES = 10
"""Rows of each further part of the batch that are tried alone then."""
TIMED_OUT_WEIGHT = 10
"""For how many rows one counts that exceeds the statement time-out: it takes that long."""


@dataclass(frozen=True)
class Steps(Generic[T]):
    """What a bisection does with its items.

    Attributes:
        attempt: works on these items in one transaction; a fault has rolled it back.
        alone: returns the result of the one item that is at fault.
        untried: returns the result of items that were not tried alone; the fault is the last one.
    """

    attempt: Callable[[Sequence[T]], BatchResult]
    alone: Callable[[T, Fault], BatchResult]
    untried: Callable[[Sequence[T], Fault], BatchResult]


def bisect(items: Sequence[T], steps: Steps[T]) -> BatchResult:
    """Attempt a batch in a transaction of its own; in halves, when one of its rows is refused."""
    bisection = _Bisection(steps)
    result = bisection.work(items)
    return bisection.end(result)


def split(items: Sequence[T], fault: Fault, steps: Steps[T]) -> BatchResult:
    """Attempt the halves of a batch that was refused with `fault`.

    After a stop request the second half is left for the next run.
    """
    bisection = _Bisection(steps)
    result = bisection.split(items, fault)
    return bisection.end(result)


def blame(kind: str, key: UUID, fault: Fault, name: str | None = None) -> BatchResult:
    """Return the result of one item alone: deferred when it is locked, failed otherwise.

    Args:
        kind: what the item is called in the report.
        key: its identifier.
        fault: why its batch was refused.
        name: what follows the kind in the report; None for the identifier.
    """
    result = BatchResult.selecting([key.int])
    if isinstance(fault, LockTimeout):
        result.deferred = 1
    else:
        result.fail(f"{kind} {name or key}", str(fault))
        result.refused = 1
    return result


def left(ids: Iterable[UUID]) -> BatchResult:
    """Return the result of items that were not tried: a later run selects them again."""
    result = BatchResult.selecting(one.int for one in ids)
    result.deferred = result.selected
    return result


def left_untried(ids: Sequence[UUID], _fault: Fault) -> BatchResult:
    """Return the same, as the step `untried` of a bisection whose items are identifiers."""
    return left(ids)


class Effort:
    """How many rows a bisection has tried in vain; and when it has tried enough of them."""

    def __init__(self) -> None:
        """Begin."""
        self.accepted = False
        self._refused = 0
        self._probes = PROBES

    def refused(self, *, timed_out: bool) -> None:
        """Count a row alone that was refused; one that exceeds its time-out counts as ten."""
        self._refused += TIMED_OUT_WEIGHT if timed_out else 1
        if timed_out:
            self._probes = PROBES // TIMED_OUT_WEIGHT + 1

    @property
    def enough(self) -> bool:
        """Whether many rows were refused, and none was accepted."""
        return self._refused >= MOST_REFUSED and not self.accepted

    def probes(self, items: Sequence[T]) -> tuple[list[T], list[T]]:
        """Return a few items, chosen at random to differ from run to run; and the others."""
        chosen = set(random.sample(range(len(items)), min(self._probes, len(items))))
        return (
            [item for place, item in enumerate(items) if place in chosen],
            [item for place, item in enumerate(items) if place not in chosen],
        )


class _Bisection(Generic[T]):
    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self._effort = Effort()
        self._left: list[tuple[Sequence[T], Fault]] = []

    def end(self, result: BatchResult) -> BatchResult:
        """Add the parts of the batch that were left, once it is known whether any is accepted."""
        for items, fault in self._left:
            if not self._effort.accepted:
                result += self._steps.untried(items, fault)
            elif not stop_request.requested():
                result += self.work(items)
        return result

    def work(self, items: Sequence[T]) -> BatchResult:
        try:
            result = self._steps.attempt(items)
        except FAULTS as fault:
            return self.split(items, fault)
        self._effort.accepted = True
        return result

    def split(self, items: Sequence[T], fault: Fault) -> BatchResult:
        if len(items) == 1:
            self._effort.refused(timed_out=isinstance(fault, StatementTimeout))
            return self._steps.alone(items[0], fault)
        if self._effort.enough:
            return self._probe(items, fault)
        middle = len(items) // 2
        result = self.work(items[:middle])
        if not stop_request.requested():
            result += self.work(items[middle:])
        return result

    def _probe(self, items: Sequence[T], fault: Fault) -> BatchResult:
        """Try a few items alone, and leave the others to `end`."""
        result = BatchResult()
        few, others = self._effort.probes(items)
        for item in few:
            if not stop_request.requested():
                result += self.work([item])
        if others:
            self._left.append((others, fault))
        return result
