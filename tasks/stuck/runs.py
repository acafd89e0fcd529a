"""The tasks of cleanup-stuck-runs: time out, follow up, preview, count (SPEC 6)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from prefect import task
from sqlalchemy import Engine

from maintenance.budget import BatchSizer, SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import engine_for, transaction
from maintenance.report import Overdue
from maintenance.schema.base import Version
from maintenance.schema.versions import live_version
from maintenance.settings import settings
from tasks.batching.claims import selected
from tasks.batching.keyset import KeysetCursor
from tasks.batching.overdue import count_overdue_rows
from tasks.batching.scans import by_page
from tasks.batching.slices import Batch, Slice, work_slice
from tasks.purge.options import page_sizer
from tasks.retrying import COUNT_OPTIONS, TASK_OPTIONS
from tasks.stuck.finalization import unfinalized_runs
from tasks.stuck.finalization_preview import preview_finalization
from tasks.stuck.follow_up import execution_ids_of, open_follow_up
from tasks.stuck.selection import (
    STUCK_BY_START,
    claimable,
    count_of_stuck,
    stuck_runs,
    without_start,
)
from tasks.stuck.time_out import TimeOut, preview_time_out, time_out_batch

MAX_NAMED = 20
"""Most runs that a warning names."""

FOLLOWED_UP = "runs finished"


@dataclass(frozen=True)
class StuckOptions:
    """How a run works.

    Attributes:
        job: the job's name, which its database connections carry.
        batch_size: most runs of a batch.
        timeout: how long a run may last whose attempts have no deadline.
    """

    job: str
    batch_size: int
    timeout: timedelta


@task(name="time out stuck runs", **TASK_OPTIONS)
def time_out_stuck_runs(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: StuckOptions
) -> Slice[KeysetCursor]:
    """Time out the runs that hang, oldest first, and follow them up.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    sizer = BatchSizer(options.batch_size, settings().batch_seconds)
    with _opened(cutoff, options) as work:
        selection = claimable(cutoff, options.timeout, work.version)
        one_batch = by_page(selection, STUCK_BY_START, partial(time_out_batch, work))
        done = work_slice(one_batch, cursor, share, sizer)
        done.result += work.follow_up.wait()
    return done


@task(name="follow up earlier runs", **TASK_OPTIONS)
def follow_up_earlier_runs(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: StuckOptions
) -> Slice[KeysetCursor]:
    """Follow up runs that an earlier run of the job timed out and did not finalize.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    with _opened(cutoff, options) as work:

        def one_batch(cursor: KeysetCursor | None, rows: int) -> Batch[KeysetCursor]:
            with transaction(work.engine, read_only=True) as connection:
                page = unfinalized_runs(connection, cursor, rows, cutoff.started_at)
                execution_ids = execution_ids_of(connection, page.ids)
            result = work.follow_up.start(page.ids, execution_ids)
            if result.done:
                result.repaired[FOLLOWED_UP] = result.done
            return Batch(result, page.cursor, page.exhausted)

        done = work_slice(one_batch, cursor, share, page_sizer(options.batch_size))
        done.result += work.follow_up.wait()
    return done


@task(name="preview stuck runs", **TASK_OPTIONS)
def preview_stuck_runs(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: StuckOptions
) -> Slice[KeysetCursor]:
    """Count the runs that would time out, in READ ONLY transactions.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    with _opened(cutoff, options) as work:
        selection = stuck_runs(cutoff, options.timeout, work.version)
        one_batch = by_page(selection, STUCK_BY_START, partial(preview_time_out, work))
        return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


@task(name="preview earlier runs", **TASK_OPTIONS)
def preview_earlier_runs(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: StuckOptions
) -> Slice[KeysetCursor]:
    """Count the runs that `follow_up_earlier_runs` would follow up.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    with _opened(cutoff, options) as work:

        def one_batch(cursor: KeysetCursor | None, rows: int) -> Batch[KeysetCursor]:
            with transaction(work.engine, read_only=True) as connection:
                page = unfinalized_runs(connection, cursor, rows, cutoff.started_at)
                result = selected(page.ids)
                result += preview_finalization(connection, page.ids)
                execution_ids = execution_ids_of(connection, page.ids)
            result += work.follow_up.preview(page.ids, execution_ids)
            if page.ids:
                result.repaired[FOLLOWED_UP] = len(page.ids)
            return Batch(result, page.cursor, page.exhausted)

        return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


@task(name="count stuck runs", **COUNT_OPTIONS)
def count_stuck_runs(cutoff: Cutoff, options: StuckOptions) -> Overdue:
    """Count what `overdue_stuck_runs` counts, as a step of a run."""
    return overdue_stuck_runs(cutoff, options.job, options.timeout)


def overdue_stuck_runs(cutoff: Cutoff, job: str, timeout: timedelta) -> Overdue:
    """Return the runs that still hang.

    Raises:
        DatabaseError: the statement failed.
    """
    version = _version(engine_for(settings(), job))
    return count_overdue_rows(count_of_stuck(cutoff, timeout, version), cutoff, job)


@task(name="find runs without a start", **COUNT_OPTIONS)
def find_runs_without_start(cutoff: Cutoff, options: StuckOptions) -> list[str]:
    """Return a warning that names the runs of `without_start`, if there are any (SPEC 6.1).

    Raises:
        DatabaseError: the statement failed.
    """
    query = without_start(cutoff).limit(MAX_NAMED)
    with transaction(engine_for(settings(), options.job), read_only=True) as connection:
        found = connection.execute(query).all()
    if not found:
        return []
    names = ", ".join(str(row.id) for row in found)
    more = ", ..." if found[0].number > len(found) else ""
    warning = (
        f"{found[0].number:,} runs are RUNNING without a start and without a deadline, so it"
        f" cannot be determined whether they hang; they were not timed out: {names}{more}"
    )
    return [warning]


@contextmanager
def _opened(cutoff: Cutoff, options: StuckOptions) -> Iterator[TimeOut]:
    current = settings()
    engine = engine_for(current, options.job)
    version = _version(engine)
    with open_follow_up(engine, current) as follow_up:
        yield TimeOut(engine, cutoff, options.timeout, follow_up, version)


def _version(engine: Engine) -> Version:
    with transaction(engine, read_only=True) as connection:
        return live_version(connection)
