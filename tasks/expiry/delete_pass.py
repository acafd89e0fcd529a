"""One delete pass over the rows that are due: range after range, then what was passed over.

A range is deleted by one plain DELETE in a transaction of its own. When the DELETE exceeds the
lock time-out or its time limit, or is refused, it is retried at half the size and with SKIP LOCKED:
locked rows stay, and their range is noted for a second visit at the end of the pass. A range that
still fails is bisected down to the rows that the database does not delete (tasks/expiry/bisection).

The pass ends with the noted ranges and, after a block scan, with a short check for rows that an
UPDATE has moved to blocks that were already scanned. That check reads the dead rows of the pass, so
its time is limited, and it is left out when they are too many for that time; the next run finds
what it misses.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, Engine

from maintenance.database import transaction
from maintenance.errors import DatabaseError
from maintenance.guard import check_held
from maintenance.report import BatchResult
from maintenance.settings import Settings
from tasks.batching.slices import Batch
from tasks.expiry.bisection import Left, bisect
from tasks.expiry.planner import Span, plan
from tasks.expiry.ranges import BlockScan, Due, Range, Scan
from tasks.expiry.results import as_datetime
from tasks.expiry.statements import (
    count_due,
    delete_due,
    delete_range_unlocked,
    delete_unlocked,
    failed_by_rows,
    is_gone,
    prepare,
    row_limit,
)
from tasks.expiry.throttle import Health, OwnTimeSizer, Throttle

MAX_NOTED_RANGES = 100
"""Ranges with locked rows that are visited again; locked rows of others wait for the next run."""

MAX_ATTEMPTS = 5
"""Attempts at a batch that exceeds a time-out or is refused, each at half the size of the one
before; then the range is bisected."""

TIME_LIMIT_FACTOR = 40
"""Time limit of a batch, in multiples of its target time."""

MAX_STATEMENT_SECONDS = 1.0
"""The guard is checked between statements, so none may take longer than this."""

MOVED_CHECK_SHARE = 0.03
"""Time limit of the check for moved rows, as a share of the time of all batches before it."""
MOVED_CHECK_MIN_SECONDS = 0.05
MOVED_CHECK_ROWS = 1_000
DEAD_ROW_SECONDS = 0.2e-6
"""Least time in which the check passes the index entry of a row that the pass deleted. Measured:
0.2 to 0.4 µs where rows lie in the order of their time, 0.5 to 1.4 µs where they are scattered."""

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """The state of a pass; the cursor that is passed on from slice to slice.

    Attributes:
        scan: where the scan continues; None when it has ended.
        max_size: most rows or blocks of a batch.
        size: rows or blocks of the next batch.
        noted: ranges with locked rows, to be visited again.
        left: rows that were still locked at the second visit, or that failed.
        check_moved: whether rows may have moved to blocks that were already scanned.
        scan_seconds: time of all batches of the scan, without pauses.
        deleted: rows that the scan has deleted.
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
    deleted: int = 0
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
        chosen = plan(connection, due, batch_rows)
    return Progress(
        chosen.scan,
        chosen.max_size,
        chosen.first_size,
        check_moved=isinstance(chosen.scan, BlockScan),
        span=chosen.span,
    )


class DeletePass:
    """The batches of one slice."""

    def __init__(
        self,
        engine: Engine,
        job: str,
        due: Due,
        start: Progress,
        throttle: Throttle,
        current: Settings,
    ) -> None:
        """Continue the pass of a job where the previous slice ended."""
        target_seconds = current.delete_batch_seconds
        self._engine = engine
        self._job = job
        self._due = due
        self._start = start
        self._limit_seconds = min(
            TIME_LIMIT_FACTOR * target_seconds,
            current.statement_timeout_seconds,
            MAX_STATEMENT_SECONDS,
        )
        self._throttle = throttle
        self.sizer = OwnTimeSizer(start.max_size, target_seconds, start.size)

    def batch(self, progress: Progress | None, _rows: int) -> Batch[Progress]:
        """Do the next batch, and pause after it.

        Raises:
            DatabaseError: the batch failed, and not because of its rows.
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
            try:
                deleted = self._transaction(partial(self._delete, scan=scan, wait=attempt == 0))
            except DatabaseError as error:
                if not failed_by_rows(error):
                    raise
                self.sizer.collided()
                continue
            seconds = time.monotonic() - started
            by_blocks = isinstance(scan, BlockScan)
            self.sizer.learn(self.sizer.size if by_blocks else deleted.result.selected, seconds)
            spent = progress.scan_seconds + seconds
            after = replace(
                progress,
                scan=deleted.following,
                scan_seconds=spent,
                deleted=progress.deleted + deleted.result.done,
            )
            if deleted.noted and len(after.noted) < MAX_NOTED_RANGES:
                after = replace(after, noted=(*after.noted, deleted.rows))
            return deleted.result, after
        step = self._transaction(lambda c: scan.step(c, self._due, self.sizer.size))
        result, left = bisect(self._transaction, self._due, step.rows)
        return result, replace(progress, scan=step.following, left=progress.left + left)

    def _delete(self, connection: Connection, scan: Scan, *, wait: bool) -> Deletion:
        step = scan.step(connection, self._due, self.sizer.size)
        limit = row_limit(step.rows)
        if wait and limit is None:
            result = delete_due(connection, self._due, step.rows)
            return Deletion(result, step.rows, step.following, noted=False)
        result = delete_range_unlocked(connection, self._due, step.rows)
        if limit is not None and result.done == limit:
            return Deletion(result, step.rows, scan, noted=False)
        return Deletion(result, step.rows, step.following, noted=True)

    def _noted_range(self, progress: Progress) -> tuple[BatchResult, Progress]:
        rows, *others = progress.noted

        def second_visit(connection: Connection) -> tuple[BatchResult, Left]:
            result = delete_range_unlocked(connection, self._due, rows)
            return result, Left(*count_due(connection, self._due, rows))

        try:
            result, left = self._transaction(second_visit)
            result.deferred = left.rows
        except DatabaseError as error:
            if not failed_by_rows(error):
                raise
            result, left = bisect(self._transaction, self._due, rows)
        return result, replace(progress, noted=tuple(others), left=progress.left + left)

    def _moved_rows(self, progress: Progress) -> tuple[BatchResult, Progress]:
        """End a block scan: delete the oldest rows that are left, if they are found in time.

        Only now is it known which times are gone, because blocks are not in the order of time.
        """
        limit_seconds = max(MOVED_CHECK_MIN_SECONDS, MOVED_CHECK_SHARE * progress.scan_seconds)
        result = BatchResult()
        if progress.deleted * DEAD_ROW_SECONDS < limit_seconds:
            result = self._delete_oldest(limit_seconds)
        more = result.done == MOVED_CHECK_ROWS

        def gone(connection: Connection, time: str | None) -> str | None:
            return time if time and is_gone(connection, self._due, time) else None

        for name, moment in zip(("oldest", "newest"), progress.span, strict=True):
            deleted = self._transaction(partial(gone, time=moment))
            setattr(result, name, as_datetime(deleted))
        return result, replace(progress, check_moved=more)

    def _delete_oldest(self, limit_seconds: float) -> BatchResult:
        def delete_oldest(connection: Connection) -> BatchResult:
            prepare(connection, limit_seconds)
            return delete_unlocked(connection, self._due, self._due.scope, MOVED_CHECK_ROWS)

        try:
            return self._transaction(delete_oldest)
        except DatabaseError as error:
            if not failed_by_rows(error):
                raise
            return BatchResult()

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        check_held(self._job)
        with transaction(self._engine) as connection:
            prepare(connection, self._limit_seconds)
            return work(connection)
