"""Bisects a range whose DELETE fails, down to the rows that the database does not delete.

A trigger, a deferred constraint or a time-out ends a transaction without naming the row. The rows
of the range are deleted by their ctid in transactions of half the size each, until one row is left
alone: it has failed, and the others are deleted. A failed row is named by its ctid, because the
jobs' role may not read keys (a session key is a credential).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from maintenance import stop_request
from maintenance.errors import DatabaseError, StatementTimeout
from maintenance.report import BatchResult
from tasks.batching.bisection import Effort
from tasks.expiry.ranges import BlockRange, Due, Range
from tasks.expiry.statements import count_due, ctids, delete_unlocked, failed_by_rows, with_ctids

MAX_SECONDS = 30.0
"""Time limit of a bisection; rows that it does not reach are deferred to the next run."""


@dataclass(frozen=True)
class Left:
    """Rows left behind, locked or failed: their number, and the oldest one's time."""

    rows: int = 0
    oldest: datetime | None = None

    def __add__(self, other: "Left") -> "Left":
        """Add the rows of another range."""
        oldest = min(filter(None, (self.oldest, other.oldest)), default=None)
        return Left(self.rows + other.rows, oldest)


class _Bisection:
    def __init__(self, transact: Callable[..., BatchResult], due: Due) -> None:
        self._transact = transact
        self._due = due
        self._deadline = time.monotonic() + MAX_SECONDS
        self._effort = Effort()
        self._left: list[Sequence[str]] = []

    def delete(self, places: Sequence[str]) -> BatchResult:
        """Delete the rows with these ctids that are not locked, isolating those that fail."""
        if not places or self._ends:
            return BatchResult()
        scope = with_ctids(self._due, places)
        try:
            result = self._transact(partial(delete_unlocked, due=self._due, scope=scope))
        except DatabaseError as error:
            if not failed_by_rows(error):
                raise
            if len(places) == 1:
                return self._failed(places[0], error)
        else:
            self._effort.accepted = self._effort.accepted or result.done > 0
            return result
        if self._effort.enough:
            return self._probe(places)
        middle = len(places) // 2
        result = self.delete(places[:middle])
        result += self.delete(places[middle:])
        return result

    @property
    def _ends(self) -> bool:
        return bool(stop_request.requested()) or time.monotonic() > self._deadline

    def _probe(self, places: Sequence[str]) -> BatchResult:
        """Try a few rows alone, and leave the others to `end`."""
        result = BatchResult()
        few, others = self._effort.probes(places)
        for place in few:
            result += self.delete([place])
        self._left.append(others)
        return result

    def end(self, result: BatchResult) -> BatchResult:
        """Delete the parts of the range that were left, if any row has been deleted."""
        for places in self._left if self._effort.accepted else []:
            result += self.delete(places)
        return result

    def _failed(self, place: str, error: DatabaseError) -> BatchResult:
        table = self._due.expiring.table.name
        self._effort.refused(timed_out=isinstance(error, StatementTimeout))
        result = BatchResult(selected=1, refused=1)
        result.fail(
            f"{table} row with ctid {place}",
            f"{error}; to see the row, select it by ctid = '{place}'",
        )
        return result


def bisect(transact: Callable[..., Any], due: Due, rows: Range) -> tuple[BatchResult, Left]:
    """Delete the rows of a range one by one where needed; return what is left of it, too.

    Args:
        transact: runs a function in a transaction of its own, given the connection.
        due: what the run may delete.
        rows: the range.

    Raises:
        DatabaseError: a transaction failed for another reason than its rows.
    """
    places = transact(lambda connection: ctids(connection, due, rows))
    bisection = _Bisection(transact, due)
    result = bisection.end(bisection.delete(places))
    if isinstance(rows, BlockRange):
        result.oldest = result.newest = None
    left = transact(lambda connection: Left(*count_due(connection, due, rows)))
    result.deferred = max(0, left.rows - result.failed)
    return result, left
