"""The Prefect tasks of the jobs that delete rows by age (SPEC 7).

The work itself is in tasks/expiry/delete_pass.py. No row is loaded into memory.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from prefect import task
from sqlalchemy import Engine

from maintenance.budget import SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import engine_for, transaction
from maintenance.errors import DatabaseError, ParameterError, TransientDatabaseError
from maintenance.expiring import ExpiringTable
from maintenance.indexes import missing_indexes
from maintenance.report import Overdue
from maintenance.settings import settings
from tasks.batching.slices import Batch, Slice, work_slice
from tasks.expiry.bisection import Left
from tasks.expiry.delete_pass import DeletePass, Progress, begin
from tasks.expiry.freeing import count_freed
from tasks.expiry.planner import estimated_rows
from tasks.expiry.ranges import Due, TimeScan
from tasks.expiry.references import live_references
from tasks.expiry.results import as_datetime
from tasks.expiry.statements import (
    count_due,
    flush_commits,
    limit_statements,
    preview,
    timed_out,
)
from tasks.expiry.throttle import OwnTimeSizer, Throttle
from tasks.retrying import COUNT_OPTIONS, TASK_OPTIONS

PREVIEW_ROWS = 50_000
"""Rows counted by one statement of a dry run."""

COUNT_SECONDS = 5.0
"""Time limit of counting what is left; then the planner's estimate is reported instead."""


@dataclass(frozen=True)
class DeleteOptions:
    """The options of a run, shared by its slices.

    Attributes:
        job: the job's name, used as application_name of its connections.
        expiring: the table, and which of its rows are deleted.
        batch_size: most rows of a batch.
        age: how much older than `as_of` a row must be; None for the table's own.
    """

    job: str
    expiring: ExpiringTable
    batch_size: int
    age: timedelta | None = None

    def limit(self, cutoff: Cutoff) -> datetime:
        """Return the time before which rows are deleted.

        Raises:
            ParameterError: it would be before year 1.
        """
        age = self.expiring.age if self.age is None else self.age
        try:
            return cutoff.as_of - age
        except OverflowError:
            message = f"as_of={cutoff.as_of.isoformat()} is less than {age.days} days after year 1"
            raise ParameterError(message) from None

    def due(self, cutoff: Cutoff, engine: Engine) -> Due:
        """Return what a run may delete from this database.

        Raises:
            DatabaseError: the database did not answer.
        """
        references = live_references(engine, self.expiring)
        return Due(self.expiring, self.limit(cutoff), references)


@task(name="check indexes", **TASK_OPTIONS)
def check_indexes(options: DeleteOptions) -> list[str]:
    """Return which indexes the job would need, each with the statement that creates it.

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

    The batches commit asynchronously. The slice waits for the disk once, at its end, so that what
    it reports as deleted is durable.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    current = settings()
    engine = engine_for(current, options.job)
    due = options.due(cutoff, engine)
    start = progress or begin(engine, due, options.batch_size)
    if start.finished:
        return Slice(start, exhausted=True)
    table, pause_seconds = options.expiring.table.name, current.delete_pause_seconds
    throttle = Throttle(engine, table, share, pause_seconds, start.health)
    work = DeletePass(engine, options.job, due, start, throttle, current)
    done = work_slice(work.batch, start, share, work.sizer)
    if done.result.done:
        try:
            with transaction(engine) as connection:
                flush_commits(connection)
        except DatabaseError as error:
            # The rows are deleted; only a crash of the server could still bring some back.
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
    engine = engine_for(settings(), options.job)
    due = options.due(cutoff, engine)
    start = progress or begin(engine, due, PREVIEW_ROWS)
    if start.scan is None:
        return Slice(start, exhausted=True)

    def one_batch(reached: Progress | None, size: int) -> Batch[Progress]:
        scan = (reached or start).scan
        assert scan is not None  # noqa: S101 - the slice ends with the scan
        with transaction(engine, read_only=True) as connection:
            step = scan.step(connection, due, size)
            result = preview(connection, due, step.rows)
            result.rows_by_table.update(count_freed(connection, due, step.rows))
        following = Progress(step.following, start.max_size, start.max_size)
        return Batch(result, following, exhausted=step.following is None)

    sizer = OwnTimeSizer(start.max_size, target_seconds=1, size=start.max_size)
    return work_slice(one_batch, start, share, sizer)


@task(name="count expired rows", **COUNT_OPTIONS)
def count_expired(cutoff: Cutoff, options: DeleteOptions, reached: Progress | None) -> Overdue:
    """Count what `overdue_rows` counts, as a step of a run."""
    return overdue_rows(cutoff, options, reached)


def overdue_rows(
    cutoff: Cutoff, options: DeleteOptions, reached: Progress | None = None
) -> Overdue:
    """Return the expired rows that are still there.

    Only rows that the pass left behind and rows that it has not reached are counted; `reached` is
    None when no pass has begun. When counting takes too long, the planner's estimate is returned
    and marked as one.

    Raises:
        DatabaseError: the statement failed.
    """
    engine = engine_for(settings(), options.job)
    due = options.due(cutoff, engine)
    reached = reached or begin(engine, due, options.batch_size)
    try:
        left = _count(engine, due, reached)
    except TransientDatabaseError as error:
        if not timed_out(error):
            raise
        return _estimate(engine, cutoff, due, reached)
    return Overdue(rows=left.rows, oldest_age_seconds=_age(cutoff, left.oldest))


def _count(engine: Engine, due: Due, reached: Progress) -> Left:
    with transaction(engine, read_only=True) as connection:
        limit_statements(connection, COUNT_SECONDS)
        left = reached.left
        rest = [] if reached.scan is None else [reached.scan.rest(connection, due)]
        for rows in (*reached.noted, *rest):
            left += Left(*count_due(connection, due, rows))
        return left


def _estimate(engine: Engine, cutoff: Cutoff, due: Due, reached: Progress) -> Overdue:
    with transaction(engine, read_only=True) as connection:
        rows = round(estimated_rows(connection, due))
    oldest = as_datetime(reached.scan.since) if isinstance(reached.scan, TimeScan) else None
    return Overdue(rows=rows, oldest_age_seconds=_age(cutoff, oldest), estimated=True)


def _age(cutoff: Cutoff, oldest: datetime | None) -> float | None:
    return (cutoff.started_at - oldest).total_seconds() if oldest else None
