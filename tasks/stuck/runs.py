"""The tasks of cleanup-stuck-runs: end, finish, preview, count (SPEC 6)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from prefect import task

from maintenance.budget import BatchSizer, SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import engine_for, transaction
from maintenance.report import Overdue
from maintenance.settings import settings
from tasks.batching.keyset import KeysetCursor
from tasks.batching.overdue import count_overdue_rows
from tasks.batching.scans import by_page
from tasks.batching.slices import Batch, Slice, work_slice
from tasks.purge.options import page_sizer
from tasks.retrying import TASK_OPTIONS, TEN_MINUTES
from tasks.stuck.finalization import unfinished_runs
from tasks.stuck.follow_up import execution_ids_of, open_finisher, selected
from tasks.stuck.preview import preview_finish
from tasks.stuck.selection import (
    STUCK_BY_START,
    claimable,
    count_of_stuck,
    stuck_runs,
    without_start,
)
from tasks.stuck.time_out import Ending, end_batch, preview_page

MAX_NAMED = 20
"""So many runs are named in a warning."""

FINISHED = "runs finished"

OPTIONS = {**TASK_OPTIONS, "retry_delay_seconds": TEN_MINUTES}


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


@task(name="end stuck runs", **OPTIONS)
def end_stuck_runs(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: StuckOptions
) -> Slice[KeysetCursor]:
    """End the runs that hang, oldest first; stop their containers, and finish them.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    selection = claimable(cutoff, options.timeout)
    sizer = BatchSizer(options.batch_size, settings().batch_seconds)
    with _ending(cutoff, options) as ending:
        one_batch = by_page(selection, STUCK_BY_START, partial(end_batch, ending))
        done = work_slice(one_batch, cursor, share, sizer)
        done.result += ending.finisher.wait()
    return done


@task(name="finish ended runs", **OPTIONS)
def finish_ended_runs(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: StuckOptions
) -> Slice[KeysetCursor]:
    """Finish runs that an earlier run of the job ended, and did not come to finish.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    with _ending(cutoff, options) as ending:

        def one_batch(place: KeysetCursor | None, rows: int) -> Batch[KeysetCursor]:
            with transaction(ending.engine, read_only=True) as connection:
                page = unfinished_runs(connection, place, rows, cutoff.started_at)
                execution_ids = execution_ids_of(connection, page.ids)
            result = ending.finisher.finish(page.ids, execution_ids)
            if result.done:
                result.repaired[FINISHED] = result.done
            return Batch(result, page.place, page.exhausted)

        done = work_slice(one_batch, cursor, share, page_sizer(options.batch_size))
        done.result += ending.finisher.wait()
    return done


@task(name="preview stuck runs", **OPTIONS)
def preview_stuck_runs(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: StuckOptions
) -> Slice[KeysetCursor]:
    """Say which runs would be ended, in READ ONLY transactions.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    selection = stuck_runs(cutoff, options.timeout)
    with _ending(cutoff, options) as ending:
        one_batch = by_page(selection, STUCK_BY_START, partial(preview_page, ending))
        return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


@task(name="preview unfinished runs", **OPTIONS)
def preview_unfinished_runs(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: StuckOptions
) -> Slice[KeysetCursor]:
    """Say which runs would be finished that an earlier run of the job ended.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    with _ending(cutoff, options) as ending:

        def one_batch(place: KeysetCursor | None, rows: int) -> Batch[KeysetCursor]:
            with transaction(ending.engine, read_only=True) as connection:
                page = unfinished_runs(connection, place, rows, cutoff.started_at)
                result = selected(page.ids)
                result += preview_finish(connection, page.ids)
                execution_ids = execution_ids_of(connection, page.ids)
            result += ending.finisher.preview(page.ids, execution_ids)
            if page.ids:
                result.repaired[FINISHED] = len(page.ids)
            return Batch(result, page.place, page.exhausted)

        return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


@task(name="count stuck runs", **OPTIONS)
def count_stuck_runs(cutoff: Cutoff, options: StuckOptions) -> Overdue:
    """Count what `overdue_stuck_runs` counts, as a step of a run."""
    return overdue_stuck_runs(cutoff, options.job, options.timeout)


def overdue_stuck_runs(cutoff: Cutoff, job: str, timeout: timedelta) -> Overdue:
    """Return the runs that still hang.

    Raises:
        DatabaseError: the statement failed.
    """
    return count_overdue_rows(count_of_stuck(cutoff, timeout), cutoff, job)


@task(name="find runs without a start", **OPTIONS)
def find_runs_without_start(cutoff: Cutoff, options: StuckOptions) -> list[str]:
    """Return a warning that names runs which nobody can judge, if there are any (SPEC 6.1).

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
        f"{found[0].number:,} runs are RUNNING without a start and without a deadline, so that"
        f" nobody can say whether they hang; they were not ended: {names}{more}"
    )
    return [warning]


@contextmanager
def _ending(cutoff: Cutoff, options: StuckOptions) -> Iterator[Ending]:
    current = settings()
    engine = engine_for(current, options.job)
    with open_finisher(engine, current) as finisher:
        yield Ending(engine, cutoff, options.timeout, finisher)
