"""One delete pass over the rows that are due: range after range, then what was passed over.

A range is deleted by one plain DELETE in a transaction of its own. When the DELETE exceeds the
lock time-out or its time limit, it is retried at half the size and with SKIP LOCKED: locked rows
stay, and their range is noted for a second visit at the end of the pass.

The pass ends with the noted ranges and, after a block scan, with a short check for rows that an
UPDATE has moved to blocks that were already scanned. That check reads the dead rows of the pass, so
its time is limited; the next run finds what it misses.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, Engine

from maintenance.database import transaction
from maintenance.errors import TransientDatabaseError
from maintenance.report import BatchResult
from maintenance.settings import Settings
from tasks.batching.slices import Batch
from tasks.expiry.planner import Span, plan
from tasks.expiry.ranges import BlockRange, BlockScan, Due, Range, Scan
from tasks.expiry.statements import (
    count_due,
    delete_due,
    delete_unlocked,
    is_gone,
    prepare,
    row_limit,
    timed_out,
)
from tasks.expiry.throttle import Health, OwnTimeSizer, Throttle

MAX_NOTED_RANGES = 100
"""Ranges with locked rows that are visited again; locked rows of others wait for the next run."""

FIRST_ROWS = 1_000
FIRST_BLOCKS = 40
"""Size of a run's first batch; it at most doubles from batch to batch."""

MAX_ATTEMPTS = 5
"""Attempts at a batch that exceeds a time-out, each at half the size; then the slice fails."""

TIME_LIMIT_FACTOR = 40
"""Time limit of a batch, in multiples of its target time."""

MOVED_CHECK_SHARE = 0.03
"""Time limit of the check for moved rows, as a share of the time of all batches before it."""
MOVED_CHECK_MIN_SECONDS = 0.05
MOVED_CHECK_ROWS = 1_000

T = TypeVar("T")


@dataclass(frozen=True)
class Left:
    """Rows left behind because they were locked: their number, and the oldest one's time."""

    rows: int = 0
    oldest: datetime | None = None

    def __add__(self, other: "Left") -> "Left":
        """Add the rows of another range."""
        oldest = min(filter(None, (self.oldest, other.oldest)), default=None)
        return Left(self.rows + other.rows, oldest)


@dataclass(frozen=True)
class Progress:
    """The state of a pass; the cursor that is passed on from slice to slice.

    Attributes:
        scan: where the scan continues; None when it has ended.
        max_size: most rows or blocks of a batch.
        size: rows or blocks of the next batch.
        noted: ranges with locked rows, to be visited again.
        left: rows that were still locked at the second visit.
        check_moved: whether rows may have moved to blocks that were already scanned.
        scan_seconds: time of all batches of the scan, without pauses.
        span: the oldest and newest time that were due at the start.
        health: the last result of the health check.
    """

    scan: Scan | None
    max_size: int
    size: int
    noted: tuple[Range, ...] = ()
    left: Left = field(default_factory=Left)
    check_moved: bool = False
    scan_seconds: float = 0.0
    span: Span = (None, None)
    health: Health = field(default_factory=Health)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.scan is None and not self.noted and not self.check_moved


@dataclass(frozen=True)
class Deletion:
    """A range after its DELETE; `noted` says that locked rows may be left in it."""

    result: BatchResult
    rows: Range
    following: Scan | None
    noted: bool


def begin(engine: Engine, due: Due, batch_rows: int) -> Progress:
    """Return the start of a pass.

    Raises:
        DatabaseError: the database did not answer.
    """
    with transaction(engine, read_only=True) as connection:
        scan, max_size, span = plan(connection, due, batch_rows)
    by_blocks = isinstance(scan, BlockScan)
    size = min(max_size, FIRST_BLOCKS if by_blocks else FIRST_ROWS)
    return Progress(scan, max_size, size, check_moved=by_blocks, span=span)


class DeletePass:
    """The batches of one slice."""

    def __init__(
        self, engine: Engine, due: Due, start: Progress, throttle: Throttle, current: Settings
    ) -> None:
        """Continue the pass where the previous slice ended."""
        target_seconds = current.delete_batch_seconds
        self._engine = engine
        self._due = due
        self._start = start
        self._limit_seconds = min(
            TIME_LIMIT_FACTOR * target_seconds, current.statement_timeout_seconds
        )
        self._throttle = throttle
        self.sizer = OwnTimeSizer(start.max_size, target_seconds, start.size)

    def batch(self, progress: Progress | None, _rows: int) -> Batch[Progress]:
        """Do the next batch, and pause after it.

        Raises:
            DatabaseError: the batch failed, even at a fraction of its size.
        """
        progress = progress or self._start
        if not self._throttle.may_continue():
            return self._batch_of(progress, BatchResult())
        started = time.monotonic()
        if progress.scan is not None:
            result, after = self._next_range(progress, progress.scan)
        elif progress.noted:
            result, after = self._noted_range(progress)
        else:
            result, after = self._moved_rows(progress)
        self._throttle.pause_after(time.monotonic() - started)
        return self._batch_of(replace(after, size=self.sizer.size), result)

    def _batch_of(self, progress: Progress, result: BatchResult) -> Batch[Progress]:
        result.throttled_because = self._throttle.take_changes()
        reached = replace(progress, health=self._throttle.health)
        return Batch(result, reached, exhausted=reached.finished)

    def _next_range(self, progress: Progress, scan: Scan) -> tuple[BatchResult, Progress]:
        for attempt in range(MAX_ATTEMPTS):
            started = time.monotonic()
            deleted = self._try(scan, wait=attempt == 0, last=attempt + 1 == MAX_ATTEMPTS)
            if deleted is None:
                self.sizer.collided()
                continue
            seconds = time.monotonic() - started
            by_blocks = isinstance(scan, BlockScan)
            self.sizer.learn(self.sizer.size if by_blocks else deleted.result.selected, seconds)
            spent = progress.scan_seconds + seconds
            after = replace(progress, scan=deleted.following, scan_seconds=spent)
            if deleted.noted and len(after.noted) < MAX_NOTED_RANGES:
                after = replace(after, noted=(*after.noted, deleted.rows))
            return deleted.result, after
        raise AssertionError  # the last attempt returns or raises

    def _try(self, scan: Scan, *, wait: bool, last: bool) -> Deletion | None:
        """Delete the next range; None when a time-out ended it and it may be retried."""
        try:
            return self._transaction(lambda connection: self._delete(connection, scan, wait=wait))
        except TransientDatabaseError as error:
            if last or not timed_out(error):
                raise
            return None

    def _delete(self, connection: Connection, scan: Scan, *, wait: bool) -> Deletion:
        step = scan.step(connection, self._due, self.sizer.size)
        limit = row_limit(step.rows)
        if wait and limit is None:
            result = delete_due(connection, self._due, step.rows)
            return Deletion(result, step.rows, step.following, noted=False)
        result = self._delete_unlocked(connection, step.rows)
        if limit is not None and result.done == limit:
            return Deletion(result, step.rows, scan, noted=False)
        return Deletion(result, step.rows, step.following, noted=True)

    def _delete_unlocked(self, connection: Connection, rows: Range) -> BatchResult:
        result = delete_unlocked(connection, self._due, rows.scope(self._due), row_limit(rows))
        if isinstance(rows, BlockRange):
            # The times of one block range say nothing about those of the others.
            result.oldest = result.newest = None
        return result

    def _noted_range(self, progress: Progress) -> tuple[BatchResult, Progress]:
        rows, *others = progress.noted

        def second_visit(connection: Connection) -> tuple[BatchResult, Left]:
            result = self._delete_unlocked(connection, rows)
            return result, Left(*count_due(connection, self._due, rows))

        result, left = self._transaction(second_visit)
        result.deferred = left.rows
        return result, replace(progress, noted=tuple(others), left=progress.left + left)

    def _moved_rows(self, progress: Progress) -> tuple[BatchResult, Progress]:
        """End a block scan: delete the oldest rows that are left, if they are found in time.

        Only now is it known which times are gone, because blocks are not in the order of time.
        """
        limit_seconds = max(MOVED_CHECK_MIN_SECONDS, MOVED_CHECK_SHARE * progress.scan_seconds)

        def delete_oldest(connection: Connection) -> BatchResult:
            prepare(connection, limit_seconds)
            return delete_unlocked(connection, self._due, self._due.scope, MOVED_CHECK_ROWS)

        try:
            result = self._transaction(delete_oldest)
        except TransientDatabaseError as error:
            if not timed_out(error):
                raise
            result = BatchResult()
        more = result.done == MOVED_CHECK_ROWS

        def deleted_times(connection: Connection) -> list[datetime | None]:
            return [
                moment if is_gone(connection, self._due, moment) else None
                for moment in progress.span
            ]

        result.oldest, result.newest = self._transaction(deleted_times)
        return result, replace(progress, check_moved=more)

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        with transaction(self._engine) as connection:
            prepare(connection, self._limit_seconds)
            return work(connection)
