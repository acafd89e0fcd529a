"""What a run did: the counts that its batches add up to, and the report of SPEC 2.7."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, computed_field, field_serializer

from maintenance.outside_text import OneLine, one_line
from maintenance.wording import human_bytes, number_of

MAX_FAILURES = 20
"""Most failures that a report lists with their cause; `failed` counts all of them."""

MAX_THROTTLED = 20
"""Most entries of `throttled_because`."""

MAX_WARNINGS = 20
"""Most warnings of batches that are listed; equal ones are listed once."""

MAX_STAMPED = 10
"""Most rows that are kept in memory to be remembered beside the files."""

MAX_FAILED_ITEMS = 1_000
"""Most failed items that are kept in memory, for counting failures across runs."""

FINGERPRINT_MODULUS = 2**128


COUNTS = ("selected", "done", "failed", "deferred", "skipped", "refused", "batches")


class StopReason(StrEnum):
    """Why a run ended."""

    DRAINED = "drained"
    TIME_BUDGET = "time_budget"
    TIME_LIMIT = "time_limit"
    MAX_BATCHES = "max_batches"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    ERROR = "error"


class NextAttempt(BaseModel):
    """What the database has recorded of a failed item's attempts."""

    model_config = ConfigDict(frozen=True)

    attempts: int
    due: datetime
    """When the item is tried again."""


class Failure(BaseModel):
    """One item that failed: why, how often it was tried, and what to do (SPEC 10.15).

    Without `retry` no attempts are counted, and each run of the job tries the item.
    """

    model_config = ConfigDict(frozen=True)

    item: OneLine
    cause: OneLine
    retry: NextAttempt | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def action(self) -> str:
        """What an operator has to do."""
        if self.retry is None:
            return "correct the cause; the next run of the job tries it again"
        return (
            f"correct the cause; tried {number_of(self.retry.attempts, 'times')} so far, the next"
            f" attempt is after {self.retry.due:%Y-%m-%d %H:%M:%S} UTC"
        )


class Reclaimed(BaseModel):
    """Residue of one kind: how much was found, and what was deleted of it (SPEC 10.12).

    In a dry run, what would be deleted.
    """

    items: int = 0
    rows: int = 0
    files: int = 0
    bytes: int = 0

    def __add__(self, other: "Reclaimed") -> "Reclaimed":
        """Add two counts of the same kind."""
        mine, others = self.model_dump(), other.model_dump()
        return Reclaimed(**{name: mine[name] + others[name] for name in mine})


class BatchResult(BaseModel):
    """What one or more batches did; results are added with `+=`.

    `selected` items were claimed (in a dry run: would be claimed). Each of them is `done`,
    `failed`, `deferred` (in use by the application, left for a later run) or `skipped` (nothing
    to do). `rows_by_table` counts rows that were changed or deleted; `files` and `bytes` count
    what was deleted from storage.
    """

    selected: int = 0
    done: int = 0
    failed: int = 0
    deferred: int = 0
    skipped: int = 0
    refused: int = Field(default=0, exclude=True)
    """Failed items that the database refused, or that exceeded the statement time-out."""
    rows_by_table: Counter[str] = Field(default_factory=Counter)
    repaired: Counter[str] = Field(default_factory=Counter)
    unknown_policies: Counter[str] = Field(default_factory=Counter)
    files: int = 0
    bytes: int = 0
    reclaimed: dict[str, Reclaimed] = Field(default_factory=dict)
    """Residue by kind; only reclaim-residue has it."""
    fingerprint: str | None = None
    """Sum of the selected identifiers, in hexadecimal: equal selections have equal fingerprints,
    whatever their order."""
    oldest: datetime | None = None
    newest: datetime | None = None
    batches: int = 0
    failures: list[Failure] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    throttled_because: list[str] = Field(default_factory=list)
    """When and why the run slowed down or waited because of the database's health."""
    most_failures: ClassVar[int] = MAX_FAILED_ITEMS
    """Most failures that are kept with their cause and next attempt, each of which is logged."""
    stamped: list[UUID] = Field(default_factory=list, exclude=True)
    """The rows that were stamped last, the newest at the end; never printed."""
    failed_items: dict[str, str] = Field(default_factory=dict, exclude=True)
    """Failed items with their cause, more of them than `failures` lists; never printed."""

    @classmethod
    def selecting(cls, numbers: Iterable[int]) -> "BatchResult":
        """Return the result of a batch that selected the items with these identifiers."""
        ids = list(numbers)
        fingerprint = f"{sum(ids) % FINGERPRINT_MODULUS:032x}" if ids else None
        return BatchResult(selected=len(ids), fingerprint=fingerprint)

    def fail(self, item: str, cause: str, retry: NextAttempt | None = None) -> None:
        """Record one item's failure, and its next attempt if that is recorded."""
        self.failed += 1
        if len(self.failures) < self.most_failures:
            self.failures.append(Failure(item=item, cause=cause, retry=retry))
        if len(self.failed_items) < MAX_FAILED_ITEMS:
            self.failed_items[one_line(item)] = one_line(cause)

    @field_serializer("warnings", "throttled_because")
    def _texts(self, texts: list[str]) -> list[str]:
        return [one_line(text) for text in texts]

    @field_serializer("rows_by_table", "repaired", "unknown_policies")
    def _names(self, counts: Counter[str]) -> dict[str, int]:
        return {one_line(name): count for name, count in counts.items()}

    def add(self, other: "BatchResult") -> None:
        """Add another result to this one."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.files += other.files
        self.bytes += other.bytes
        for kind, found in other.reclaimed.items():
            self.reclaimed[kind] = self.reclaimed.get(kind, Reclaimed()) + found
        self.rows_by_table.update(other.rows_by_table)
        self.repaired.update(other.repaired)
        self.unknown_policies.update(other.unknown_policies)
        self.fingerprint = _sum_of(self.fingerprint, other.fingerprint)
        self.oldest = min(filter(None, (self.oldest, other.oldest)), default=None)
        self.newest = max(filter(None, (self.newest, other.newest)), default=None)
        self.failures = [*self.failures, *other.failures][: self.most_failures]
        self.throttled_because = [*self.throttled_because, *other.throttled_because][:MAX_THROTTLED]
        new = [text for text in dict.fromkeys(other.warnings) if text not in self.warnings]
        self.warnings = [*self.warnings, *new[: max(0, MAX_WARNINGS - len(self.warnings))]]
        self.stamped = [*self.stamped, *other.stamped][-MAX_STAMPED:]
        failed = [*self.failed_items.items(), *other.failed_items.items()]
        self.failed_items = dict(failed[:MAX_FAILED_ITEMS])

    def __iadd__(self, other: "BatchResult") -> Self:
        """Add another result to this one."""
        self.add(other)
        return self


class Overdue(BaseModel):
    """What is past its deadline after the run: how many rows, and the age of the oldest.

    `estimated`: there are too many to count them, so this is the planner's estimate.
    """

    rows: int
    oldest_age_seconds: float | None = None
    estimated: bool = False


class RunHeading(BaseModel):
    """Which run a report is about."""

    job: str
    dry_run: bool
    as_of: datetime


class Report(BatchResult, RunHeading):
    """The result of one run of one job: the sum of its batches, and how the run ended."""

    cutoff: datetime | None = None
    duration_seconds: float = 0.0
    stopped_because: StopReason = StopReason.DRAINED
    message: str = ""
    most_failures: ClassVar[int] = MAX_FAILURES
    overdue: Overdue | None = None
    alerts: int = 0
    """Items that have failed so often that an operator must act (SPEC 3, 5.3)."""
    errors: list[str] = Field(default_factory=list)
    """What is wrong around the run, although it did its work (SPEC 10.13)."""

    @property
    def items_failed(self) -> bool:
        """Whether any item failed, so that the run ends as Failed."""
        return self.failed > 0

    @property
    def cancelled(self) -> bool:
        """Whether the run stopped because of a stop request."""
        return self.stopped_because is StopReason.CANCELLED

    @field_serializer("errors")
    def _errors(self, texts: list[str]) -> list[str]:
        return [one_line(text) for text in texts]

    @field_serializer("message")
    def _message(self, message: str) -> str:
        return one_line(message)

    def summary(self) -> str:
        """Return the report in one line, for the message of the run's state."""
        errors = [f"ERROR: {'; '.join(self.errors)}"] if self.errors else []
        return one_line(", ".join([self._summary(), *errors]))

    def _summary(self) -> str:
        if self.stopped_because is StopReason.SKIPPED:
            return f"Skipped: {self.message}"
        if self.stopped_because is StopReason.ERROR:
            return f"Stopped by an error after {number_of(self.done, 'items')}: {self.message}"
        if self.dry_run:
            parts = [f"Dry run: {self.selected:,} selected, nothing changed"]
        elif not (self.selected or self.repaired):
            parts = ["Nothing done" if self.cancelled else "Nothing to do"]
        else:
            parts = [f"{self.done:,} of {self.selected:,} done"]
        counts = {"failed": self.failed, "deferred": self.deferred, "skipped": self.skipped}
        parts += [f"{count:,} {name}" for name, count in counts.items() if count]
        parts += [number_of(count, name) for name, count in self.repaired.items() if count]
        if self.files:
            parts.append(f"{number_of(self.files, 'files')} ({human_bytes(self.bytes)})")
        if self.cancelled:
            parts.append("stopped on request")
        elif self.stopped_because is not StopReason.DRAINED:
            parts.append(f"stopped by {self.stopped_because.replace('_', ' ')}")
        if self.overdue and self.overdue.rows and not self.dry_run:
            about = "about " if self.overdue.estimated else ""
            parts.append(f"{about}{self.overdue.rows:,} still overdue")
        if self.alerts:
            parts.append(f"ALERT: {self.alerts:,} keep failing")
        return ", ".join(parts)


def _sum_of(first: str | None, second: str | None) -> str | None:
    """Add two fingerprints; None is that of an empty selection."""
    if first is None or second is None:
        return first or second
    return f"{(int(first, 16) + int(second, 16)) % FINGERPRINT_MODULUS:032x}"
