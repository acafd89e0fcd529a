"""One pass through the rows that are due: stretch after stretch, then those that were left.

A stretch is deleted by one plain DELETE in a transaction of its own. One that meets somebody's
lock for longer than the lock time-out, or takes far too long, is tried again at half its size, and
then without waiting: the rows that are locked are noted and left for the end of the pass.

At the end come the noted stretches once more, and after a pass by blocks a short look for rows
that somebody has moved behind it (an UPDATE puts a row where there is room). That look reads what
the pass has deleted, so it is given up when it takes long; the next run finds such rows.
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
from tasks.expiry.planner import Span, start_of
from tasks.expiry.ranges import BlockRange, BlockScan, Due, Range, Scan
from tasks.expiry.statements import (
    capped,
    count_due,
    delete_due,
    delete_oldest,
    delete_unlocked,
    gave_way,
    is_gone,
    prepare,
)
from tasks.expiry.throttle import Health, OwnTimeSizer, Pace

NOTED_STRETCHES = 100
"""So many stretches with locked rows are met again; what is locked in others waits for a run."""

FIRST_ROWS = 1_000
FIRST_BLOCKS = 40
"""The first batch of a slice that knows no better; it at most doubles from there."""

MOST_TRIES = 5
"""So often is a batch that meets a time-out tried at half the size before the slice fails."""

STATEMENT_FACTOR = 40
"""A batch that takes so many times the target is given up and tried at half the size."""

LOOK_SHARE = 0.03
"""The look for moved rows may take this share of the time of all batches before it."""
LOOK_LEAST_SECONDS = 0.05
LOOK_ROWS = 1_000

T = TypeVar("T")


@dataclass(frozen=True)
class Left:
    """Rows that stay because somebody has them locked: how many, and the oldest one's time."""

    rows: int = 0
    oldest: datetime | None = None

    def __add__(self, other: "Left") -> "Left":
        """Add rows of another stretch."""
        oldest = min(filter(None, (self.oldest, other.oldest)), default=None)
        return Left(self.rows + other.rows, oldest)


@dataclass(frozen=True)
class Progress:
    """How far a pass has come; the cursor that goes from slice to slice.

    Attributes:
        walk: where it goes on; None when only the end of the pass is left.
        most: most rows or blocks of a batch.
        size: rows or blocks of the next batch.
        noted: stretches with locked rows, to be met again.
        left: rows that were locked then, too.
        look: whether rows may have moved behind the walk.
        walk_seconds: what the walk has taken, without pauses.
        span: the oldest and newest time that were due at the start.
        health: what is known of the database's health.
    """

    walk: Scan | None
    most: int
    size: int
    noted: tuple[Range, ...] = ()
    left: Left = field(default_factory=Left)
    look: bool = False
    walk_seconds: float = 0.0
    span: Span = (None, None)
    health: Health = field(default_factory=Health)

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.walk is None and not self.noted and not self.look


@dataclass(frozen=True)
class Erased:
    """A stretch that is done; `skipping` says that locked rows may be left in it."""

    result: BatchResult
    stretch: Range
    following: Scan | None
    skipping: bool


def begin(engine: Engine, due: Due, batch_rows: int) -> Progress:
    """Return where a pass starts.

    Raises:
        DatabaseError: the database did not answer.
    """
    with transaction(engine, read_only=True) as connection:
        walk, most, span = start_of(connection, due, batch_rows)
    by_blocks = isinstance(walk, BlockScan)
    return Progress(
        walk,
        most,
        size=min(most, FIRST_BLOCKS if by_blocks else FIRST_ROWS),
        look=by_blocks,
        span=span,
    )


class DeletePass:
    """The batches of one slice."""

    def __init__(
        self, engine: Engine, due: Due, start: Progress, pace: Pace, current: Settings
    ) -> None:
        """Take up the pass where the last slice has left it."""
        target_seconds = current.delete_batch_seconds
        self._engine = engine
        self._due = due
        self._start = start
        self._longest_seconds = min(
            STATEMENT_FACTOR * target_seconds, current.statement_timeout_seconds
        )
        self._pace = pace
        self.sizer = OwnTimeSizer(start.most, target_seconds, start.size)

    def batch(self, progress: Progress | None, _rows: int) -> Batch[Progress]:
        """Do the next batch, and pause after it.

        Raises:
            DatabaseError: it failed, also at a fraction of its size.
        """
        progress = progress or self._start
        if not self._pace.may_go_on():
            return self._came_to(progress, BatchResult())
        started = time.monotonic()
        if progress.walk is not None:
            result, after = self._next_stretch(progress, progress.walk)
        elif progress.noted:
            result, after = self._noted_stretch(progress)
        else:
            result, after = self._look(progress)
        self._pace.rest_after(time.monotonic() - started)
        return self._came_to(replace(after, size=self.sizer.size), result)

    def _came_to(self, progress: Progress, result: BatchResult) -> Batch[Progress]:
        result.throttled_because = self._pace.take_changes()
        reached = replace(progress, health=self._pace.health)
        return Batch(result, reached, exhausted=reached.over)

    def _next_stretch(self, progress: Progress, walk: Scan) -> tuple[BatchResult, Progress]:
        for attempt in range(MOST_TRIES):
            started = time.monotonic()
            erased = self._try(walk, wait=attempt == 0, last=attempt + 1 == MOST_TRIES)
            if erased is None:
                self.sizer.collided()
                continue
            seconds = time.monotonic() - started
            by_blocks = isinstance(walk, BlockScan)
            self.sizer.learn(self.sizer.size if by_blocks else erased.result.selected, seconds)
            spent = progress.walk_seconds + seconds
            after = replace(progress, walk=erased.following, walk_seconds=spent)
            if erased.skipping and len(after.noted) < NOTED_STRETCHES:
                after = replace(after, noted=(*after.noted, erased.stretch))
            return erased.result, after
        raise AssertionError  # the last attempt returns or raises

    def _try(self, walk: Scan, *, wait: bool, last: bool) -> Erased | None:
        """Delete the next stretch; None when it gave way to somebody."""
        try:
            return self._transaction(lambda connection: self._erase(connection, walk, wait=wait))
        except TransientDatabaseError as error:
            if last or not gave_way(error):
                raise
            return None

    def _erase(self, connection: Connection, walk: Scan, *, wait: bool) -> Erased:
        step = walk.step(connection, self._due, self.sizer.size)
        at_most = capped(step.stretch)
        if wait and at_most is None:
            result = delete_due(connection, self._due, step.stretch)
            return Erased(result, step.stretch, step.following, skipping=False)
        result = self._erase_unlocked(connection, step.stretch)
        if at_most is not None and result.done == at_most:
            return Erased(result, step.stretch, walk, skipping=False)
        return Erased(result, step.stretch, step.following, skipping=True)

    def _erase_unlocked(self, connection: Connection, stretch: Range) -> BatchResult:
        scope = stretch.scope(self._due)
        result = delete_unlocked(connection, self._due, scope, capped(stretch))
        if isinstance(stretch, BlockRange):
            # What one stretch knows of times says nothing about the others.
            result.oldest = result.newest = None
        return result

    def _noted_stretch(self, progress: Progress) -> tuple[BatchResult, Progress]:
        stretch, *rest = progress.noted

        def again(connection: Connection) -> tuple[BatchResult, Left]:
            result = self._erase_unlocked(connection, stretch)
            return result, Left(*count_due(connection, self._due, stretch))

        result, left = self._transaction(again)
        result.deferred = left.rows
        return result, replace(progress, noted=tuple(rest), left=progress.left + left)

    def _look(self, progress: Progress) -> tuple[BatchResult, Progress]:
        """End a pass by blocks: delete the oldest rows that are left, if they are found soon.

        Only now is it known which times are gone: blocks are in no order of time.
        """
        oldest, newest = progress.span

        def shortly(connection: Connection) -> BatchResult:
            prepare(connection, max(LOOK_LEAST_SECONDS, LOOK_SHARE * progress.walk_seconds))
            return delete_oldest(connection, self._due, LOOK_ROWS)

        try:
            result = self._transaction(shortly)
        except TransientDatabaseError as error:
            if not gave_way(error):
                raise
            result = BatchResult()
        more = result.done == LOOK_ROWS

        def times(connection: Connection) -> None:
            result.oldest = oldest if is_gone(connection, self._due, oldest) else None
            result.newest = newest if is_gone(connection, self._due, newest) else None

        self._transaction(times)
        return result, replace(progress, look=more)

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        with transaction(self._engine) as connection:
            prepare(connection, self._longest_seconds)
            return work(connection)
