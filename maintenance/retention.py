"""Retention (SPEC 3): days by policy, deadlines, and the backoff of retries."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Interval, case, cast, literal

from maintenance.odd_values import later

DO_NOT_STORE: Final = "DO_NOT_STORE"
STORE_PERMANENTLY: Final = "STORE_PERMANENTLY"

INPUT_DAYS: Final = {"STORE_1_DAY": 1, "STORE_7_DAYS": 7, "STORE_30_DAYS": 30}
"""Days of the finite policies of a submission's content."""

INPUT_POLICIES: Final = (DO_NOT_STORE, *INPUT_DAYS, STORE_PERMANENTLY)
"""Every other value is unknown, and treated as DO_NOT_STORE."""

OUTPUT_DAYS: Final = {**INPUT_DAYS, "STORE_90_DAYS": 90, "STORE_1_YEAR": 365}
"""Days of the finite policies of a run's outputs."""

BACKOFF: Final = (
    timedelta(seconds=60),
    timedelta(seconds=300),
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(hours=24),
)
"""The wait after failure 1, 2, ...; the last one repeats, because a purge is never given up."""

ALERT_ATTEMPTS: Final = 5
"""Failed attempts from which on a report raises an alert."""

MAX_ERROR_CHARACTERS: Final = 2_000


def submission_deadline(policy: str, created: datetime, ended: datetime | None) -> datetime | None:
    """Return the deadline of a submission's content; None when the policy has none.

    None, too, when the deadline lies after the year 9999.

    Args:
        policy: its `retention_policy`.
        created: its time of creation.
        ended: the latest `ended_at` of its runs, None without one.
    """
    days = INPUT_DAYS.get(policy)
    return None if days is None else later(ended or created, timedelta(days=days))


def deadline_expression(
    policy: ColumnElement[str], base: ColumnElement[datetime], days: dict[str, int]
) -> ColumnElement[datetime]:
    """Return the same rule in SQL: `base` plus the policy's days, NULL for the others."""
    spans = {name: cast(literal(f"{count} days"), Interval) for name, count in days.items()}
    return base + case(spans, value=policy, else_=cast(literal(None), Interval))


def backoff(failures: int) -> timedelta:
    """Return the wait after failure number `failures` (1, 2, ...)."""
    return BACKOFF[min(failures, len(BACKOFF)) - 1]


def backoff_expression(failures: ColumnElement[int]) -> ColumnElement[timedelta]:
    """Return the same rule in SQL."""
    spans = {
        number: cast(literal(f"{wait.total_seconds():.0f} seconds"), Interval)
        for number, wait in enumerate(BACKOFF[:-1], start=1)
    }
    last = cast(literal(f"{BACKOFF[-1].total_seconds():.0f} seconds"), Interval)
    return case(spans, value=failures, else_=last)
