"""The pace of a run that deletes by age: batch size, pauses, and the database's health.

The application comes first. A batch adapts to its target time, a pause may follow each, and while
the database is not well the run slows down or waits. What it does about it is in the report.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine

from maintenance import stop_request
from maintenance.budget import BatchSizer, SliceBudget
from tasks.expiry.database_health import HealthLevel, Signal, look, worst

LOOK_SECONDS = 1.0
"""Time between two looks at the database's health."""

SLOW_FACTOR = 4.0
"""Slowing down is a pause of so many times the batch: a fifth of the speed."""


class OwnTimeSizer(BatchSizer):
    """A sizer for batches that know their own time, without the pauses between them.

    Its unit is what the run goes by: rows or heap blocks.
    """

    def took(self, rows: int, seconds: float) -> None:
        """Ignore the time of a batch with its pauses; `learn` is told the real one."""

    def learn(self, amount: int, seconds: float) -> None:
        """Learn from a batch of so many rows or blocks."""
        super().took(amount, seconds)


@dataclass(frozen=True)
class Health:
    """What the last look found; goes with the run from slice to slice."""

    signals: tuple[Signal, ...] = ()
    looked_at: float = float("-inf")

    @property
    def level(self) -> HealthLevel:
        """What all signals together ask for."""
        return worst(list(self.signals))


class Pace:
    """Pauses of one slice."""

    def __init__(
        self,
        engine: Engine,
        table: str,
        share: SliceBudget,
        pause_seconds: float,
        health: Health | None,
    ) -> None:
        """Begin with what the slice before had found."""
        self._engine = engine
        self._table = table
        self._pause_seconds = pause_seconds
        self._deadline = time.monotonic() + share.seconds
        self.health = health or Health()
        self._changes: list[str] = []

    def may_go_on(self) -> bool:
        """Look at the database's health now and then, and wait while it says stop.

        Returns:
            False when it still says stop and the time of the slice is over, or the run's.
        """
        while True:
            self._look()
            if self.health.level is not HealthLevel.STOP:
                return True
            left = self._deadline - time.monotonic()
            if left <= 0 or stop_request.requested():
                return False
            stop_request.rest(min(LOOK_SECONDS, left))

    def rest_after(self, seconds: float) -> None:
        """Pause after a batch that took so long."""
        slow = SLOW_FACTOR * seconds if self.health.level is HealthLevel.SLOW_DOWN else 0.0
        stop_request.rest(max(self._pause_seconds, slow))

    def take_changes(self) -> list[str]:
        """Return what has changed since the last call, for the report."""
        taken, self._changes = self._changes, []
        return taken

    def _look(self) -> None:
        now = time.monotonic()
        if now - self.health.looked_at < LOOK_SECONDS:
            return
        signals = tuple(look(self._engine, self._table))
        before = {(one.name, one.level) for one in self.health.signals}
        known = {one.name for one in self.health.signals}
        self._changes += [
            f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {one}"
            for one in signals
            if (one.name, one.level) not in before
            and (one.name in known or one.level is not HealthLevel.NORMAL)
        ]
        self.health = Health(signals, now)
