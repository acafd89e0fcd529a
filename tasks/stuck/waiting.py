"""Runs that Validibot itself will go on with: they are counted, and not timed out (SPEC 6.5)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from prefect import task
from sqlalchemy import Engine, Select

from maintenance.budget import SliceBudget
from maintenance.continuations import old_continuations
from maintenance.cutoff import Cutoff
from maintenance.database import engine_for, transaction
from maintenance.report import BatchResult
from maintenance.schema.versions import live_version
from maintenance.settings import settings
from tasks.batching.claims import selected
from tasks.batching.keyset import KeysetCursor
from tasks.batching.scans import by_page
from tasks.batching.slices import Slice, work_slice
from tasks.purge.options import page_sizer
from tasks.retrying import COUNT_OPTIONS, TASK_OPTIONS
from tasks.stuck.rows import ClaimedRun
from tasks.stuck.runs import StuckOptions
from tasks.stuck.selection import STUCK_BY_START, deferred_runs


@task(name="count runs that wait for Validibot", **TASK_OPTIONS)
def count_waiting_runs(
    cutoff: Cutoff, cursor: KeysetCursor | None, share: SliceBudget, options: StuckOptions
) -> Slice[KeysetCursor]:
    """Count the runs whose time is over and that have an unfinished continuation, as deferred.

    READ ONLY, without a lock: Validibot may go on with them at any moment.

    Raises:
        DatabaseError: the first batch of the slice failed.
    """
    engine = engine_for(settings(), options.job)
    with transaction(engine, read_only=True) as connection:
        version = live_version(connection)
    page = deferred_runs(cutoff, options.timeout, version)
    one_batch = by_page(page, STUCK_BY_START, partial(_count, engine))
    return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


def _count(engine: Engine, page: Select[Any]) -> tuple[Sequence[ClaimedRun], BatchResult]:
    with transaction(engine, read_only=True) as connection:
        items = [ClaimedRun(row.id, row.moment) for row in connection.execute(page)]
    result = selected(item.id for item in items)
    result.deferred = len(items)
    return items, result


@task(name="find old continuations", **COUNT_OPTIONS)
def find_old_continuations(cutoff: Cutoff, options: StuckOptions) -> list[str]:
    """Return a warning about continuations that Validibot does not finish, if there are any.

    Raises:
        DatabaseError: the statement failed.
    """
    current = settings()
    with transaction(engine_for(current, options.job), read_only=True) as connection:
        found = old_continuations(connection, cutoff.as_of, current.continuation_minutes)
    return [found] if found else []
