"""Continuations that Validibot does not finish: how many, since when, and what to do (SPEC 6.5)."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Numeric, Row, cast, extract, func, literal, select

from maintenance.schema import continuations, runs
from maintenance.schema.base import Version
from maintenance.schema.versions import exists_in, live_version
from maintenance.schema.vocabulary import UNFINISHED_CONTINUATION_STATES, RunStatus
from maintenance.wording import human_age

REDELIVERY = "python manage.py cleanup_stuck_runs"
"""Validibot's own command, which redelivers continuations before it does anything else."""


def present_in(version: Version) -> bool:
    """Return whether a version of Validibot has continuations."""
    return exists_in(version, continuations.name)


def unfinished() -> ColumnElement[bool]:
    """Return whether a continuation has not ended."""
    return continuations.c.state.in_(UNFINISHED_CONTINUATION_STATES)


def waits() -> ColumnElement[bool]:
    """Return whether a run has a continuation that has not ended."""
    return (
        select(literal(1))
        .where(continuations.c.validation_run_id == runs.c.id, unfinished())
        .exists()
    )


def old_continuations(connection: Connection, as_of: datetime, minutes: int) -> str:
    """Describe the unfinished continuations of RUNNING runs that are older than this.

    Args:
        connection: of a role that may read continuations and the status of runs.
        as_of: the moment from which their age counts.
        minutes: the age that is none to mention yet.

    Returns:
        One sentence for a warning; empty if there are none.

    Raises:
        DBAPIError: the statement failed.
    """
    if not present_in(live_version(connection)):
        return ""
    created = continuations.c.created
    oldest = func.min(created).filter(func.isfinite(created))
    age = cast(extract("epoch", literal(as_of) - oldest), Numeric)
    query = (
        select(continuations.c.state, func.count().label("number"), age.label("age"))
        .join(runs, runs.c.id == continuations.c.validation_run_id)
        .where(
            unfinished(),
            created < as_of - timedelta(minutes=minutes),
            runs.c.status == RunStatus.RUNNING,
        )
        .group_by(continuations.c.state)
        .order_by(continuations.c.state)
    )
    return _describe(connection.execute(query).all(), minutes)


def _describe(found: Sequence[Row[str, int, float | None]], minutes: int) -> str:
    if not found:
        return ""
    states = ", ".join(f"{row.number:,} {row.state}" for row in found)
    ages = [float(row.age) for row in found if row.age is not None]
    oldest = f", the oldest for {human_age(max(ages))}" if ages else ""
    number = sum(row.number for row in found)
    return (
        f"{number:,} continuations of running validation runs are unfinished for more than"
        f" {minutes} minutes{oldest} ({states}): Validibot's own command redelivers them:"
        f" {REDELIVERY} (docs/migration.md)"
    )
