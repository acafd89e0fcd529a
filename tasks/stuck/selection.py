"""Which runs hang; claims, previews and counts share the selection (SPEC 6.1).

The attempts of a run may have deadlines. The run hangs when one has passed. While one lies in the
future, it does not hang, whatever its age. Without any deadline its age decides. A run with an
unfinished continuation does not hang either: Validibot starts its next step. Attempts are read
run by run, through the steps: only RUNNING runs are read, and there are few of them.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    case,
    cast,
    extract,
    false,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.sql.selectable import LateralFromClause

from maintenance.continuations import present_in, waits
from maintenance.cutoff import Cutoff
from maintenance.schema import attempts, runs, step_runs
from maintenance.schema.base import NEWEST, Version
from maintenance.schema.vocabulary import (
    ACTIVE_ATTEMPT_STATES,
    ACTIVE_STEP_STATUSES,
    RunStatus,
)
from tasks.batching.keyset import KeysetOrder
from tasks.columns import RUNS

STUCK_BY_START = KeysetOrder(RUNS.created, RUNS.id)

SECONDS_A_MINUTE = 60


def active_attempt() -> ColumnElement[bool]:
    """Return whether an attempt has not ended."""
    return attempts.c.state.in_(ACTIVE_ATTEMPT_STATES)


def finite_seconds(
    first: ColumnElement[datetime], last: ColumnElement[datetime]
) -> ColumnElement[Decimal]:
    """Return the seconds between two times, NULL when one of them is infinite.

    PostgreSQL cannot calculate with infinite times, and one of them must not fail the statement.
    """
    return case((func.isfinite(first) & func.isfinite(last), extract("epoch", last - first)))


def deadlines(as_of: datetime) -> LateralFromClause:
    """Return, for each run, what the deadlines of its active attempts say.

    `bounded`: one has a deadline. `expired_at`: the earliest that has passed, NULL without one.
    `minutes`: from the creation of that attempt to its deadline, rounded up.
    """
    passed = attempts.c.timeout_at <= as_of
    allowed = finite_seconds(attempts.c.created, attempts.c.timeout_at)
    minutes = func.ceil(allowed / SECONDS_A_MINUTE)
    earliest = aggregate_order_by(minutes, attempts.c.timeout_at, attempts.c.id)
    return (
        select(
            func.coalesce(func.bool_or(attempts.c.timeout_at.is_not(None)), false()).label(
                "bounded"
            ),
            func.min(attempts.c.timeout_at).filter(passed).label("expired_at"),
            cast(func.array_agg(earliest).filter(passed)[1], BigInteger).label("minutes"),
        )
        .select_from(step_runs.join(attempts, attempts.c.step_run_id == step_runs.c.id))
        .where(step_runs.c.validation_run_id == RUNS.id, active_attempt())
        .lateral("deadlines")
    )


def is_stuck(cutoff: Cutoff, timeout: timedelta, own: LateralFromClause) -> ColumnElement[bool]:
    """Return whether a run's time is over; that of a run exactly `timeout` old is not."""
    too_old = and_(~own.c.bounded, RUNS.started_at < cutoff.as_of - timeout)
    return and_(RUNS.status == RunStatus.RUNNING, or_(own.c.expired_at.is_not(None), too_old))


def waits_for_nothing(version: Version) -> ColumnElement[bool]:
    """Return whether a run has no unfinished continuation, which Validibot redelivers."""
    return ~waits() if present_in(version) else true()


def stuck_runs(cutoff: Cutoff, timeout: timedelta, version: Version = NEWEST) -> Select[Any]:
    """Return the runs that hang, oldest first."""
    return _over(cutoff, timeout, waits_for_nothing(version))


def deferred_runs(cutoff: Cutoff, timeout: timedelta, version: Version = NEWEST) -> Select[Any]:
    """Return the runs whose time is over, and that wait for Validibot's redelivery."""
    return _over(cutoff, timeout, ~waits_for_nothing(version))


def _over(cutoff: Cutoff, timeout: timedelta, which: ColumnElement[bool]) -> Select[Any]:
    own = deadlines(cutoff.as_of)
    return (
        select(RUNS.id, RUNS.created.label("moment"))
        .join(own, true())
        .where(is_stuck(cutoff, timeout, own), which)
        .order_by(RUNS.created, RUNS.id)
    )


def claimable(cutoff: Cutoff, timeout: timedelta, version: Version = NEWEST) -> Select[Any]:
    """Return the runs that hang, locked; runs that are locked already are left out."""
    return stuck_runs(cutoff, timeout, version).with_for_update(of=runs, skip_locked=True)


def count_of_stuck(cutoff: Cutoff, timeout: timedelta, version: Version = NEWEST) -> Select[Any]:
    """Return how many runs hang, and since when the oldest of them does."""
    own = deadlines(cutoff.as_of)
    since = func.coalesce(own.c.expired_at, RUNS.started_at + literal(timeout))
    return (
        select(func.count(), func.min(since).filter(func.isfinite(since)))
        .select_from(runs)
        .join(own, true())
        .where(is_stuck(cutoff, timeout, own), waits_for_nothing(version))
    )


def without_start(cutoff: Cutoff) -> Select[Any]:
    """Return the runs of which cannot be said whether they hang, oldest first.

    They are RUNNING, their start is not recorded, and no active attempt has a deadline.
    """
    own = deadlines(cutoff.as_of)
    return (
        select(RUNS.id, func.count().over().label("number"))
        .join(own, true())
        .where(RUNS.status == RunStatus.RUNNING, RUNS.started_at.is_(None), ~own.c.bounded)
        .order_by(RUNS.created, RUNS.id)
    )


def current_step() -> LateralFromClause:
    """Return, for each run, its first step that is not done."""
    return (
        select(step_runs.c.id)
        .where(
            step_runs.c.validation_run_id == RUNS.id,
            step_runs.c.status.in_(ACTIVE_STEP_STATUSES),
        )
        .order_by(step_runs.c.step_order, step_runs.c.id)
        .limit(1)
        .lateral("step")
    )


def current_attempt(step: LateralFromClause) -> LateralFromClause:
    """Return the newest active attempt of the step."""
    return (
        select(attempts.c.id, attempts.c.provider_execution_id.label("execution_id"))
        .where(attempts.c.step_run_id == step.c.id, active_attempt())
        .order_by(attempts.c.attempt_number.desc(), attempts.c.id)
        .limit(1)
        .lateral("attempt")
    )
