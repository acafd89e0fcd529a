"""The budget of a run and of its slices, and the size of batches."""

import time
from dataclasses import dataclass, field

SLICE_SECONDS = 10.0
"""Length of a slice: long compared with the cost of a Prefect task run."""


@dataclass
class Budget:
    """What a run may use (SPEC 2.3): seconds from the budget's creation, and batches."""

    seconds: float
    max_batches: int | None = None
    batches: int = 0
    _started: float = field(default_factory=time.monotonic)

    def spend(self, batches: int) -> None:
        """Count the batches of a finished slice."""
        self.batches += batches

    @property
    def seconds_left(self) -> float:
        """Seconds until the time budget is used up; negative after it."""
        return self._started + self.seconds - time.monotonic()

    @property
    def exhausted_by(self) -> str | None:
        """Which part is used up: `max_batches`, `time_budget`, or None while both last."""
        if self.max_batches is not None and self.batches >= self.max_batches:
            return "max_batches"
        return "time_budget" if self.seconds_left <= 0 else None

    def slice(self) -> "SliceBudget":
        """Return the next slice's share."""
        left = None if self.max_batches is None else self.max_batches - self.batches
        return SliceBudget(seconds=min(SLICE_SECONDS, self.seconds_left), max_batches=left)


@dataclass(frozen=True)
class SliceBudget:
    """One slice's share of the run's budget."""

    seconds: float
    max_batches: int | None = None

    def clock(self) -> "SliceClock":
        """Start the clock of this slice."""
        return SliceClock(time.monotonic() + self.seconds, self.max_batches)


@dataclass
class SliceClock:
    """Decides whether a slice may start another batch; the first one is always allowed."""

    deadline: float
    max_batches: int | None
    batches: int = 0

    def another(self) -> bool:
        """Return whether one more batch fits, and count it if so."""
        if self.max_batches is not None and self.batches >= self.max_batches:
            return False
        if self.batches and time.monotonic() >= self.deadline:
            return False
        self.batches += 1
        return True


@dataclass
class BatchSizer:
    """Adapts the number of rows to a target time per batch, between 1 and `maximum`.

    It at most doubles from batch to batch, shrinks at once, and is halved after a lock or statement
    time-out, when the batch was in the application's way.
    """

    maximum: int
    target_seconds: float
    size: int = 0

    def __post_init__(self) -> None:
        """Start small: the first batches measure."""
        self.size = self.size or min(self.maximum, max(1, self.maximum // 8))

    def took(self, rows: int, seconds: float) -> None:
        """Adapt to a batch of `rows` rows that took `seconds`."""
        if not rows:
            return
        fitting = int(rows * self.target_seconds / max(seconds, 1e-6))
        self.size = max(1, min(self.maximum, self.size * 2, fitting))

    def collided(self) -> None:
        """Halve the size after a lock or statement time-out."""
        self.size = max(1, self.size // 2)
