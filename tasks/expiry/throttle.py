"""Throttling of a run that deletes by age: batch size, pauses, and the database's health.

The application has priority. Batches adapt to a target time, a pause may follow each, and the run
slows down or waits while the database's health is poor. The report lists these changes.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine

from maintenance import stop_request
from maintenance.budget import BatchSizer, SliceBudget
from tasks.expiry.database_health import HealthLevel, Signal, check_health, worst

HEALTH_CHECK_SECONDS = 1.0
"""Interval between two checks of the database's health."""

SLOW_FACTOR = 4.0
"""Pause when slowing down, in multiples of the batch's time: a fifth of the speed."""


class OwnTimeSizer(BatchSizer):
    """A sizer whose batches report their own time, without the pauses between them.

    Its unit is that of the scan: rows or heap blocks.
    """

    def took(self, rows: int, seconds: float) -> None:
        """Ignore the time measured by the slice, which includes pauses; see `learn`."""

    def learn(self, amount: int, seconds: float) -> None:
        """Adapt to a batch of `amount` rows or blocks that took `seconds`."""
        super().took(amount, seconds)


@dataclass(frozen=True)
class Health:
    """The result of the last health check; passed on from slice to slice."""

    signals: tuple[Signal, ...] = ()
    checked_at: float = float("-inf")

    @property
    def level(self) -> HealthLevel:
        """What all signals together call for."""
        return worst(list(self.signals))


class Throttle:
    """Health checks and pauses of one slice."""

    def __init__(
        self,
        engine: Engine,
        table: str,
        share: SliceBudget,
        pause_seconds: float,
        health: Health | None,
    ) -> None:
        """Start with the health that the previous slice found, if any."""
        self._engine = engine
        self._table = table
        self._pause_seconds = pause_seconds
        self._deadline = time.monotonic() + share.seconds
        self.health = health or Health()
        self._changes: list[str] = []

    def may_continue(self) -> bool:
        """Check the database's health when due, and wait while it calls for a stop.

        Returns:
            False when it still calls for a stop at the end of the slice, or the run is to stop.
        """
        while True:
            self._check()
            if self.health.level is not HealthLevel.STOP:
                return True
            left = self._deadline - time.monotonic()
            if left <= 0 or stop_request.requested():
                return False
            stop_request.rest(min(HEALTH_CHECK_SECONDS, left))

    def pause_after(self, seconds: float) -> None:
        """Pause after a batch that took `seconds`."""
        slow = SLOW_FACTOR * seconds if self.health.level is HealthLevel.SLOW_DOWN else 0.0
        stop_request.rest(max(self._pause_seconds, slow))

    def take_changes(self) -> list[str]:
        """Return the changes of health since the last call, for the report."""
        taken, self._changes = self._changes, []
        return taken

    def _check(self) -> None:
        now = time.monotonic()
        if now - self.health.checked_at < HEALTH_CHECK_SECONDS:
            return
        signals = tuple(check_health(self._engine, self._table))
        before = {(signal.name, signal.level) for signal in self.health.signals}
        known = {signal.name for signal in self.health.signals}
        self._changes += [
            f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {signal}"
            for signal in signals
            if (signal.name, signal.level) not in before
            and (signal.name in known or signal.level is not HealthLevel.NORMAL)
        ]
        self.health = Health(signals, now)
