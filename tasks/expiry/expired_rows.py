"""Deleting rows by age: bounded stretches, never a row loaded into memory (SPEC 7).

tasks/expiry/delete_pass.py is the engine; here are the steps that the flows are made of.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from prefect import task
from sqlalchemy import Connection, Engine
from sqlalchemy import text as sql

from maintenance.budget import SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import engine_for, milliseconds, transaction
from maintenance.errors import DatabaseError, ParameterError, TransientDatabaseError
from maintenance.expiring import ExpiringTable
from maintenance.indexes import missing_indexes
from maintenance.report import Overdue
from maintenance.settings import settings
from tasks.batching.slices import Batch, Slice, work_slice
from tasks.expiry.delete_pass import DeletePass, Left, Progress, begin
from tasks.expiry.planner import estimated_rows
from tasks.expiry.ranges import Due, TimeScan
from tasks.expiry.statements import count_due, gave_way, preview, settle
from tasks.expiry.throttle import OwnTimeSizer, Pace
from tasks.retrying import TASK_OPTIONS

PREVIEW_ROWS = 50_000
"""Rows counted by one statement of a dry run."""

COUNT_SECONDS = 5.0
"""Counting what is left is given up after so long; then the planner's estimate must do."""


@dataclass(frozen=True)
class DeleteOptions:
    """Options of a run that its slices share.

    Attributes:
        job: the job's name, which its database connections carry.
        expiring: what is deleted.
        batch_size: most rows of a batch.
        age: how much older than `as_of` a row must be; None for the table's own.
    """

    job: str
    expiring: ExpiringTable
    batch_size: int
    age: timedelta | None = None

    def limit(self, cutoff: Cutoff) -> datetime:
        """Return the time before which rows go.

        Raises:
            ParameterError: that would be before the year 1.
        """
        age = self.expiring.age if self.age is None else self.age
        try:
            return cutoff.as_of - age
        except OverflowError:
            message = f"as_of={cutoff.as_of.isoformat()} is less than {age.days} days after year 1"
            raise ParameterError(message) from None

    def due(self, cutoff: Cutoff) -> Due:
        """Return what a run may delete."""
        return Due(self.expiring, self.limit(cutoff))


@task(name="check indexes", **TASK_OPTIONS)
def check_indexes(options: DeleteOptions) -> list[str]:
    """Return which indexes the job lacks, each with the statement that creates it.

    Raises:
        DatabaseError: the statement failed.
    """
    with transaction(engine_for(settings(), options.job), read_only=True) as connection:
        return missing_indexes(connection, options.expiring)


@task(name="delete expired rows", **TASK_OPTIONS)
def delete_expired(
    cutoff: Cutoff, progress: Progress | None, share: SliceBudget, options: DeleteOptions
) -> Slice[Progress]:
    """Delete rows whose time is before the limit; rows that equal it stay.

    The batches' commits do not wait for the disk one by one; the slice does, at its end, so what
    it returns is there to stay.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    current = settings()
    engine, due = engine_for(current, options.job), options.due(cutoff)
    start = progress or begin(engine, due, options.batch_size)
    if start.over:
        return Slice(start, exhausted=True)
    pace = Pace(
        engine, options.expiring.table.name, share, current.delete_pause_seconds, start.health
    )
    work = DeletePass(engine, due, start, pace, current)
    done = work_slice(work.batch, start, share, work.sizer)
    if done.result.done:
        try:
            with transaction(engine) as connection:
                settle(connection)
        except DatabaseError as error:
            # The rows are deleted, and only a crash of the server could bring some back.
            done.interrupted = done.interrupted or str(error)
    return done


@task(name="preview expired rows", **TASK_OPTIONS)
def preview_expired(
    cutoff: Cutoff, progress: Progress | None, share: SliceBudget, options: DeleteOptions
) -> Slice[Progress]:
    """Count the rows that `delete_expired` would delete, in READ ONLY transactions.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    engine, due = engine_for(settings(), options.job), options.due(cutoff)
    start = progress or begin(engine, due, PREVIEW_ROWS)
    if start.walk is None:
        return Slice(start, exhausted=True)

    def one_batch(place: Progress | None, size: int) -> Batch[Progress]:
        walk = (place or start).walk
        assert walk is not None  # noqa: S101 - the slice ends with the walk
        with transaction(engine, read_only=True) as connection:
            step = walk.step(connection, due, size)
            result = preview(connection, due, step.stretch)
        following = Progress(step.following, start.most, start.most)
        return Batch(result, following, exhausted=step.following is None)

    sizer = OwnTimeSizer(start.most, target_seconds=1, size=start.most)
    return work_slice(one_batch, start, share, sizer)


@task(name="count expired rows", **TASK_OPTIONS)
def count_expired(cutoff: Cutoff, options: DeleteOptions, reached: Progress | None) -> Overdue:
    """Count what `overdue_rows` counts, as a step of a run."""
    return overdue_rows(cutoff, options, reached)


def overdue_rows(
    cutoff: Cutoff, options: DeleteOptions, reached: Progress | None = None
) -> Overdue:
    """Return the expired rows that are still there.

    What a pass has come by is not read again: only the rows that it left behind, and what it has
    not reached, which is everything when it has not begun (None). When that takes too long, the
    planner's estimate is returned, marked as one.

    Raises:
        DatabaseError: the statement failed.
    """
    engine, due = engine_for(settings(), options.job), options.due(cutoff)
    reached = reached or begin(engine, due, options.batch_size)
    try:
        left = _count(engine, due, reached)
    except TransientDatabaseError as error:
        if not gave_way(error):
            raise
        return _estimate(engine, cutoff, due, reached)
    return Overdue(rows=left.rows, oldest_age_seconds=_age(cutoff, left.oldest))


def _count(engine: Engine, due: Due, reached: Progress) -> Left:
    with transaction(engine, read_only=True) as connection:
        _give_up_after(connection, COUNT_SECONDS)
        left = reached.left
        for stretch in reached.noted:
            left += Left(*count_due(connection, due, stretch))
        if reached.walk is not None:
            left += Left(*count_due(connection, due, reached.walk.rest(connection, due)))
        return left


def _estimate(engine: Engine, cutoff: Cutoff, due: Due, reached: Progress) -> Overdue:
    with transaction(engine, read_only=True) as connection:
        rows = round(estimated_rows(connection, due))
    oldest = reached.walk.since if isinstance(reached.walk, TimeScan) else None
    return Overdue(rows=rows, oldest_age_seconds=_age(cutoff, oldest), estimated=True)


def _age(cutoff: Cutoff, oldest: datetime | None) -> float | None:
    return (cutoff.started_at - oldest).total_seconds() if oldest else None


def _give_up_after(connection: Connection, seconds: float) -> None:
    connection.execute(
        sql("SELECT set_config('statement_timeout', :longest, true)"),
        {"longest": milliseconds(seconds)},
    )
