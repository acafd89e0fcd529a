"""Deleting rows by age: bounded slices of the time index, never a row loaded into memory (SPEC 7).

A batch is the range from the cursor to the time of the n-th row behind it, deleted with one
statement. The cursor moves with the time, so dead index entries behind it are not read again. A
range that meets somebody's lock for longer than the lock time-out is deleted again without
waiting; the rows that are locked are left for the last pass.
"""

import time
from dataclasses import dataclass
from datetime import datetime

from prefect import task
from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    Select,
    any_,
    delete,
    func,
    literal_column,
    select,
)
from sqlalchemy import text as sql

from maintenance.budget import BatchSizer, SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import engine_for, transaction
from maintenance.errors import LockTimeout
from maintenance.expiring import ExpiringTable
from maintenance.report import BatchResult, Overdue
from maintenance.settings import settings
from tasks.retrying import TASK_OPTIONS
from tasks.slices import Batch, Slice, work_slice

LOCK_TIMEOUT = "100ms"
"""How long a range waits for a locked row before it goes on without it."""

PREVIEW_ROWS = 50_000
"""Rows counted by one statement of a dry run."""


@dataclass(frozen=True)
class TimeCursor:
    """A place in the order of time: everything before it is done, and what equals it if `past`."""

    time: datetime
    past: bool = False


@dataclass(frozen=True)
class DeleteOptions:
    """Options of a run that its slices share."""

    job: str
    expiring: ExpiringTable
    batch_size: int

    def limit(self, cutoff: Cutoff) -> datetime:
        """Return the time before which rows go."""
        return cutoff.as_of - self.expiring.age


@task(name="delete expired rows", **TASK_OPTIONS)
def delete_expired(
    cutoff: Cutoff, cursor: TimeCursor | None, share: SliceBudget, options: DeleteOptions
) -> Slice[TimeCursor]:
    """Delete rows whose time is before the cutoff, oldest first.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    current = settings()
    engine = engine_for(current, options.job)
    sizer = BatchSizer(options.batch_size, current.delete_batch_seconds)

    def one_batch(place: TimeCursor | None, rows: int) -> Batch[TimeCursor]:
        try:
            with transaction(engine) as connection:
                connection.execute(sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
                batch = _delete_range(connection, options, cutoff, place, rows)
        except LockTimeout:
            sizer.collided()
            with transaction(engine) as connection:
                batch = _delete_range(connection, options, cutoff, place, rows, skip_locked=True)
        time.sleep(current.delete_pause_seconds)
        return batch

    return work_slice(one_batch, cursor, share, sizer)


@task(name="preview expired rows", **TASK_OPTIONS)
def preview_expired(
    cutoff: Cutoff, cursor: TimeCursor | None, share: SliceBudget, options: DeleteOptions
) -> Slice[TimeCursor]:
    """Count the rows that `delete_expired` would delete, in READ ONLY transactions.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    engine = engine_for(settings(), options.job)

    def one_batch(place: TimeCursor | None, rows: int) -> Batch[TimeCursor]:
        with transaction(engine, read_only=True) as connection:
            edge = _edge(connection, options, cutoff, place, rows)
            if edge is not None and place is not None and edge == place.time:
                scope, following = _at(options, edge), TimeCursor(edge, past=True)
            else:
                scope, following = _range(options, cutoff, place, edge)
            column = options.expiring.time
            query = select(func.count(), func.min(column), func.max(column)).where(scope)
            result = _result(options, *connection.execute(query).one())
            result.done = 0
        return Batch(result, following, exhausted=edge is None)

    sizer = BatchSizer(PREVIEW_ROWS, target_seconds=1, size=PREVIEW_ROWS)
    return work_slice(one_batch, cursor, share, sizer)


@task(name="count expired rows", **TASK_OPTIONS)
def count_expired(cutoff: Cutoff, options: DeleteOptions) -> Overdue:
    """Return the expired rows that are still there.

    Raises:
        DatabaseError: the statement failed.
    """
    column = options.expiring.time
    query = select(func.count(), func.min(column)).where(column < options.limit(cutoff))
    with transaction(engine_for(settings(), options.job), read_only=True) as connection:
        rows, oldest = connection.execute(query).one()
    age = (cutoff.started_at - oldest).total_seconds() if oldest else None
    return Overdue(rows=rows, oldest_age_seconds=age)


def _delete_range(
    connection: Connection,
    options: DeleteOptions,
    cutoff: Cutoff,
    place: TimeCursor | None,
    rows: int,
    *,
    skip_locked: bool = False,
) -> Batch[TimeCursor]:
    edge = _edge(connection, options, cutoff, place, rows)
    if edge is not None and place is not None and edge == place.time:
        # More rows than a batch share one time: take them piece by piece, without an order.
        result = _delete(connection, options, _locked(options, _at(options, edge), rows))
        more = result.done == rows
        return Batch(result, place if more else TimeCursor(edge, past=True), exhausted=False)
    scope, following = _range(options, cutoff, place, edge)
    if skip_locked:
        scope = _locked(options, scope, None)
    return Batch(_delete(connection, options, scope), following, exhausted=edge is None)


def _edge(
    connection: Connection,
    options: DeleteOptions,
    cutoff: Cutoff,
    place: TimeCursor | None,
    rows: int,
) -> datetime | None:
    """Return the time of the first row behind the next `rows` ones, None when there is none."""
    column = options.expiring.time
    scope, _ = _range(options, cutoff, place, None)
    found = connection.execute(select(column).where(scope).order_by(column).offset(rows).limit(1))
    edge: datetime | None = found.scalar_one_or_none()
    return edge


def _range(
    options: DeleteOptions, cutoff: Cutoff, place: TimeCursor | None, edge: datetime | None
) -> tuple[ColumnElement[bool], TimeCursor]:
    """Return the rows from the cursor to the edge (or the cutoff), and the place behind them."""
    column = options.expiring.time
    upper = edge or options.limit(cutoff)
    scope: ColumnElement[bool] = column < upper
    if place is not None:
        scope &= column > place.time if place.past else column >= place.time
    return scope, TimeCursor(upper)


def _at(options: DeleteOptions, moment: datetime) -> ColumnElement[bool]:
    return options.expiring.time == moment


def _locked(
    options: DeleteOptions, scope: ColumnElement[bool], rows: int | None
) -> ColumnElement[bool]:
    """Return the rows in scope that can be locked now, by their place in the table."""
    ctid: ColumnClause[object] = literal_column(f"{options.expiring.table.name}.ctid")
    claim: Select[tuple[object]] = (
        select(ctid)
        .select_from(options.expiring.table)
        .where(scope)
        .limit(rows)
        .with_for_update(skip_locked=True)
    )
    return ctid == any_(func.array(claim.scalar_subquery()))


def _delete(
    connection: Connection, options: DeleteOptions, scope: ColumnElement[bool]
) -> BatchResult:
    column = options.expiring.time
    gone = delete(options.expiring.table).where(scope).returning(column.label("time")).cte("gone")
    query = select(func.count(), func.min(gone.c.time), func.max(gone.c.time))
    return _result(options, *connection.execute(query).one())


def _result(
    options: DeleteOptions, rows: int, oldest: datetime | None, newest: datetime | None
) -> BatchResult:
    result = BatchResult(selected=rows, done=rows, oldest=oldest, newest=newest)
    if rows:
        result.rows[options.expiring.table.name] = rows
    return result
