"""The budget of a run and of its slices, and the size of batches."""

import math
import time
from dataclasses import dataclass, field

SLICE_SECONDS = 10.0
"""Length of a slice: long compared with the cost of a Prefect task run."""

SECONDARY_SHARE = 0.25
"""Share of the time budget that repairs and discovery may use, so that purging gets its turn."""


@dataclass
class Budget:
    """What a run may use (SPEC 2.3, 10.14): seconds from the budget's creation, and batches.

    Attributes:
        seconds: the time budget.
        max_batches: most batches with selected items; None for no limit.
        batches: batches with selected items so far.
        secondary_seconds: seconds that repairs and discovery have taken so far.
        limit_seconds: the run's time limit, which a longer time budget does not extend.
    """

    seconds: float
    max_batches: int | None = None
    batches: int = 0
    secondary_seconds: float = 0.0
    limit_seconds: float = math.inf
    _started: float = field(default_factory=time.monotonic)

    def spend(self, batches: int) -> None:
        """Count the batches of a finished slice."""
        self.batches += batches

    def spend_secondary(self, seconds: float) -> None:
        """Count the time of a finished slice of repairs or discovery."""
        self.secondary_seconds += seconds

    @property
    def seconds_left(self) -> float:
        """Seconds until the time budget or the time limit is used up; negative after it."""
        return self._started + min(self.seconds, self.limit_seconds) - time.monotonic()

    @property
    def exhausted_by(self) -> str | None:
        """Which part is used up, as the value of a stop reason; None while there is time left."""
        if self.max_batches is not None and self.batches >= self.max_batches:
            return "max_batches"
        if self.seconds_left > 0:
            return None
        return "time_budget" if self.seconds <= self.limit_seconds else "time_limit"

    @property
    def secondary_seconds_left(self) -> float:
        """Seconds left for repairs and discovery; zero or negative when their share is used."""
        return min(SECONDARY_SHARE * self.seconds - self.secondary_seconds, self.seconds_left)

    def slice(self, rows: int | None = None) -> "SliceBudget":
        """Return the next slice's share.

        Args:
            rows: size of its first batch; None for the step's own choice.
        """
        left = None if self.max_batches is None else self.max_batches - self.batches
        seconds = min(SLICE_SECONDS, self.seconds_left)
        return SliceBudget(seconds, left, rows)

    def secondary_slice(self, rows: int | None = None) -> "SliceBudget":
        """Return the next share of repairs or discovery.

        Args:
            rows: size of its first batch; None for the step's own choice.
        """
        return SliceBudget(min(SLICE_SECONDS, self.secondary_seconds_left), None, rows)


@dataclass(frozen=True)
class SliceBudget:
    """One slice's share of the run's budget.

    Attributes:
        seconds: how long the slice may start batches.
        max_batches: most batches with selected items; None for no limit.
        first_rows: size of the first batch, within the step's own limit; None for the step's own.
    """

    seconds: float
    max_batches: int | None = None
    first_rows: int | None = None

    def clock(self) -> "SliceClock":
        """Start the clock of this slice."""
        return SliceClock(time.monotonic() + self.seconds, self.max_batches)


@dataclass
class SliceClock:
    """Decides whether a slice may start another batch; the first one is always allowed."""

    deadline: float
    max_batches: int | None
    batches: int = 0
    """Batches with selected items so far."""
    _begun: bool = False

    def another(self) -> bool:
        """Return whether one more batch may start."""
        if self.max_batches is not None and self.batches >= self.max_batches:
            return False
        if self._begun and time.monotonic() >= self.deadline:
            return False
        self._begun = True
        return True

    def count(self, selected: int) -> None:
        """Count a finished batch. One that selected nothing is free: it was only a search."""
        self.batches += selected > 0


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
