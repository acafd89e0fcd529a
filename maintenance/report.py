"""What a run did: the typed report of SPEC 2.7, and the tally that its batches add up to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

MAX_FAILURES = 20
"""So many failures are listed with their cause; the count is always complete."""

MAX_THROTTLED = 20
"""So many changes of pace are listed."""

MAX_WARNINGS = 20
"""So many warnings of the work itself are listed, each once."""

MAX_FAILED_ITEMS = 1_000
"""So many are remembered while a run lasts, for counting failures across runs."""

FINGERPRINT_MODULUS = 2**128


class StopReason(StrEnum):
    """Why a run ended."""

    DRAINED = "drained"
    TIME_BUDGET = "time_budget"
    MAX_BATCHES = "max_batches"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    ERROR = "error"


class Failure(BaseModel):
    """One item that could not be done, and why."""

    model_config = ConfigDict(frozen=True)

    item: str
    cause: str


@dataclass
class BatchResult:
    """What one or more batches did; adds up with `+=`."""

    selected: int = 0
    done: int = 0
    failed: int = 0
    deferred: int = 0
    skipped: int = 0
    batches: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    unknown_policies: Counter[str] = field(default_factory=Counter)
    files: int = 0
    bytes: int = 0
    fingerprint: int = 0
    failures: list[Failure] = field(default_factory=list)
    failed_items: dict[str, str] = field(default_factory=dict)
    oldest: datetime | None = None
    newest: datetime | None = None
    throttled: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def selecting(cls, numbers: Sequence[int]) -> Self:
        """Return the result that begins with items being selected, given their identifiers."""
        return cls(selected=len(numbers), fingerprint=sum(numbers) % FINGERPRINT_MODULUS)

    def fail(self, item: str, cause: str) -> None:
        """Record one item's failure."""
        self.failed += 1
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(Failure(item=item, cause=cause))
        if len(self.failed_items) < MAX_FAILED_ITEMS:
            self.failed_items[item] = cause

    def __iadd__(self, other: "BatchResult") -> Self:
        """Add another result to this one."""
        for name in ("selected", "done", "failed", "deferred", "skipped", "batches"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.rows.update(other.rows)
        self.repaired.update(other.repaired)
        self.unknown_policies.update(other.unknown_policies)
        self.files += other.files
        self.bytes += other.bytes
        self.fingerprint = (self.fingerprint + other.fingerprint) % FINGERPRINT_MODULUS
        self.failures = [*self.failures, *other.failures][:MAX_FAILURES]
        self.failed_items = _capped(self.failed_items, other.failed_items)
        self.oldest = min(filter(None, (self.oldest, other.oldest)), default=None)
        self.newest = max(filter(None, (self.newest, other.newest)), default=None)
        self.throttled = [*self.throttled, *other.throttled][:MAX_THROTTLED]
        self.warnings = _each_once(self.warnings, other.warnings)
        return self


class Overdue(BaseModel):
    """What is past its deadline after the run: how many rows, and the age of the oldest.

    `estimated`: there are too many to count them, so this is the planner's estimate.
    """

    rows: int
    oldest_age_seconds: float | None = None
    estimated: bool = False


class Report(BaseModel):
    """The result of one run of one job.

    `selected` items were claimed (in a dry run: would be); `done` succeeded, `failed` did not,
    `deferred` were left for later because the application uses them, `skipped` needed nothing.
    `rows_by_table` counts rows changed or deleted. `fingerprint` is the sum of the selected
    identifiers: two runs that selected the same items show the same one, whatever the order.
    """

    job: str
    dry_run: bool
    as_of: datetime
    selected: int = 0
    done: int = 0
    failed: int = 0
    deferred: int = 0
    skipped: int = 0
    rows_by_table: dict[str, int] = Field(default_factory=dict)
    repaired: dict[str, int] = Field(default_factory=dict)
    unknown_policies: dict[str, int] = Field(default_factory=dict)
    files: int = 0
    bytes: int = 0
    fingerprint: str | None = None
    cutoff: datetime | None = None
    oldest: datetime | None = None
    newest: datetime | None = None
    batches: int = 0
    duration_seconds: float = 0.0
    stopped_because: StopReason = StopReason.DRAINED
    message: str = ""
    overdue: Overdue | None = None
    alerts: int = 0
    """Items that have failed so often that somebody must look (SPEC 3, 5.3)."""
    failures: list[Failure] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    throttled_because: list[str] = Field(default_factory=list)
    """When and why the run slowed down or waited for the database's health, and went on."""
    failed_items: dict[str, str] = Field(default_factory=dict, exclude=True)
    """Failed items with their cause, more than are listed; not part of the report as printed."""

    def add(self, result: BatchResult) -> None:
        """Take in what a slice of work did."""
        for name in ("selected", "done", "failed", "deferred", "skipped", "batches"):
            setattr(self, name, getattr(self, name) + getattr(result, name))
        self.rows_by_table = _added(self.rows_by_table, result.rows)
        self.repaired = _added(self.repaired, result.repaired)
        self.unknown_policies = _added(self.unknown_policies, result.unknown_policies)
        self.files += result.files
        self.bytes += result.bytes
        if result.fingerprint:
            total = int(self.fingerprint or "0", 16) + result.fingerprint
            self.fingerprint = f"{total % FINGERPRINT_MODULUS:032x}"
        self.failures = [*self.failures, *result.failures][:MAX_FAILURES]
        self.failed_items = _capped(self.failed_items, result.failed_items)
        self.oldest = min(filter(None, (self.oldest, result.oldest)), default=None)
        self.newest = max(filter(None, (self.newest, result.newest)), default=None)
        self.throttled_because = [*self.throttled_because, *result.throttled][:MAX_THROTTLED]
        self.warnings = _each_once(self.warnings, result.warnings)

    @property
    def items_failed(self) -> bool:
        """Whether any item failed, so that the run must not look green."""
        return self.failed > 0

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked the run to stop, and it did."""
        return self.stopped_because is StopReason.CANCELLED

    def summary(self) -> str:
        """Return one line for the run's state and for people in a hurry."""
        if self.stopped_because is StopReason.SKIPPED:
            return f"Skipped: {self.message}"
        if self.stopped_because is StopReason.ERROR:
            return f"Stopped by an error after {self.done:,} items: {self.message}"
        if self.dry_run:
            parts = [f"Dry run: {self.selected:,} selected, nothing changed"]
        elif not (self.selected or self.repaired):
            parts = ["Nothing done" if self.cancelled else "Nothing to do"]
        else:
            parts = [f"{self.done:,} of {self.selected:,} done"]
        counts = {"failed": self.failed, "deferred": self.deferred, "skipped": self.skipped}
        parts += [f"{count:,} {name}" for name, count in counts.items() if count]
        parts += [f"{count:,} {name}" for name, count in self.repaired.items() if count]
        if self.files:
            parts.append(f"{self.files:,} files ({human_bytes(self.bytes)})")
        if self.cancelled:
            parts.append("stopped on request")
        elif self.stopped_because is not StopReason.DRAINED:
            parts.append(f"stopped by {self.stopped_because}")
        if self.overdue and self.overdue.rows and not self.dry_run:
            about = "about " if self.overdue.estimated else ""
            parts.append(f"{about}{self.overdue.rows:,} still overdue")
        if self.alerts:
            parts.append(f"ALERT: {self.alerts:,} keep failing")
        return ", ".join(parts)


def _added(totals: dict[str, int], more: Counter[str]) -> dict[str, int]:
    return {key: totals.get(key, 0) + more.get(key, 0) for key in {**totals, **more}}


def _each_once(known: list[str], more: list[str]) -> list[str]:
    """Append what is not there yet: a condition that lasts is said once, not by every batch."""
    new = [one for one in dict.fromkeys(more) if one not in known]
    return [*known, *new[: max(0, MAX_WARNINGS - len(known))]]


def _capped(known: dict[str, str], more: dict[str, str]) -> dict[str, str]:
    items = [*known.items(), *more.items()]
    return dict(items[:MAX_FAILED_ITEMS])


def human_bytes(size: int) -> str:
    """Return a size in bytes as people read it, in powers of 1024."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:  # noqa: PLR2004 - the base of the units above
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"


def human_age(seconds: float) -> str:
    """Return an age as days, hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))
