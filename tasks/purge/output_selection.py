"""Which runs' outputs are due, and which deadlines are missing (SPEC 5.3)."""

from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    case,
    func,
    literal,
    or_,
    select,
)

from maintenance.cutoff import Cutoff
from maintenance.retention import (
    DO_NOT_STORE,
    OUTPUT_DAYS,
    STORE_PERMANENTLY,
    deadline_expression,
)
from maintenance.schema import runs
from maintenance.schema.vocabulary import TERMINAL_RUN_STATUSES
from tasks.batching.keyset import KeysetOrder
from tasks.columns import RUNS

OUTPUTS_BY_DEADLINE = KeysetOrder(RUNS.output_expires_at, RUNS.id)

GRACE = timedelta(seconds=60)
"""Outputs that must not be stored are kept for this time after their run's end, to be read."""

OUTPUT_POLICIES = (DO_NOT_STORE, *OUTPUT_DAYS, STORE_PERMANENTLY)


def unpurged() -> ColumnElement[bool]:
    """Return whether a run has ended and still has its outputs."""
    return and_(RUNS.status.in_(TERMINAL_RUN_STATUSES), RUNS.output_purged_at.is_(None))


def must_go() -> ColumnElement[bool]:
    """Return whether a run's outputs must not be stored; an unknown policy counts as that."""
    return RUNS.output_retention_policy.not_in([*OUTPUT_DAYS, STORE_PERMANENTLY])


def unknown_policy() -> ColumnElement[bool]:
    """Return whether a run's policy is unknown."""
    return RUNS.output_retention_policy.not_in(OUTPUT_POLICIES)


def without_deadline() -> ColumnElement[bool]:
    """Return whether a run that has ended has no deadline, or no end to compute it from."""
    missing = and_(
        RUNS.output_expires_at.is_(None), RUNS.output_retention_policy != STORE_PERMANENTLY
    )
    return and_(unpurged(), or_(missing, and_(must_go(), RUNS.ended_at.is_(None))))


def new_end() -> ColumnElement[Any]:
    """Return when a run ended; now when that is not recorded, but never before its start."""
    return func.coalesce(RUNS.ended_at, func.greatest(func.statement_timestamp(), RUNS.started_at))


def new_deadline() -> ColumnElement[Any]:
    """Return the deadline that a run's outputs should have (SPEC 3)."""
    finite = deadline_expression(RUNS.output_retention_policy, new_end(), OUTPUT_DAYS)
    return case((must_go(), new_end()), else_=finite)


def dated(cutoff: Cutoff) -> ColumnElement[bool]:
    """Return whether a run's outputs are due by their recorded deadline, which is indexed."""
    return and_(
        unpurged(),
        RUNS.output_expires_at <= cutoff.as_of,
        RUNS.output_retention_policy != STORE_PERMANENTLY,
        or_(~must_go(), RUNS.ended_at <= cutoff.as_of - GRACE),
    )


def undated(cutoff: Cutoff) -> ColumnElement[bool]:
    """Return whether a run's outputs must not be stored, and no deadline has passed."""
    return and_(
        unpurged(),
        must_go(),
        RUNS.ended_at <= cutoff.as_of - GRACE,
        or_(RUNS.output_expires_at.is_(None), RUNS.output_expires_at > cutoff.as_of),
    )


def due_outputs(scope: ColumnElement[bool]) -> Select[Any]:
    """Return the runs in scope, with the columns that a purge needs."""
    moment = func.coalesce(RUNS.output_expires_at, RUNS.ended_at).label("moment")
    return select(RUNS.id, RUNS.org_id, moment).where(scope)


def claimable(scope: ColumnElement[bool]) -> Select[Any]:
    """Return the runs in scope, locked; rows that are locked already are left out.

    The lock is FOR UPDATE: findings and artifacts that are being written for the run cannot be
    committed before it is released, because their foreign keys are checked against the row.
    """
    return due_outputs(scope).with_for_update(of=runs, skip_locked=True)


def after_repair_due(cutoff: Cutoff) -> ColumnElement[bool]:
    """Return whether a run without a deadline is due once it has one."""
    ended = new_end() <= literal(cutoff.as_of) - GRACE
    return case((must_go(), ended), else_=new_deadline() <= cutoff.as_of)
