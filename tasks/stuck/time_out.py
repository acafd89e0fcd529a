"""Ending claimed runs that hang, one batch a transaction, and what follows its commit (SPEC 6).

The order inside the transaction is: claim the runs, lock their attempts, look again, change the
rows, commit. A callback that commits first wins: its run is not selected any more, or the second
look passes it by. One that comes later waits for the commit, and finds the run TIMED_OUT.

After the commit containers are stopped and the runs are finalized. Whatever ends the process in
between, the next run of the job finds these runs unfinished, and does the same with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Select, select

from maintenance.cutoff import Cutoff
from maintenance.database import transaction
from maintenance.errors import LockTimeout, RowRefused
from maintenance.report import BatchResult
from maintenance.schema import attempts, runs
from tasks.batching.arrays import any_uuid
from tasks.batching.bisection import Fault, bisect
from tasks.batching.keyset import KeysetCursor
from tasks.stuck.follow_up import Finisher, selected
from tasks.stuck.preview import preview_end
from tasks.stuck.rows import Claimed, StuckRun, end_runs, lock_attempts, read_stuck
from tasks.stuck.selection import RUNS, STUCK_BY_START, stuck_runs


@dataclass(frozen=True)
class Ending:
    """How to end runs: the database, up to when, how long one may last, and what follows."""

    engine: Engine
    cutoff: Cutoff
    timeout: timedelta
    finisher: Finisher


def end_batch(ending: Ending, claim: Select[Any]) -> tuple[list[Claimed], BatchResult]:
    """End the runs that `claim` selects and locks; then stop their containers and finish them.

    A database error that is a row's fault, or a row that the application has locked, splits the
    batch until it is one run's: that one fails or is deferred, the others are ended.

    Returns:
        The claimed runs in the order of the claim, and what became of them.

    Raises:
        DatabaseError: the database failed for a reason that is no row's fault.
    """
    ended: list[StuckRun] = []
    items, result = _end_rows(ending, claim, ended)
    if ended:
        finished = ending.finisher.finish(
            [run.id for run in ended], [run.execution_id for run in ended if run.execution_id]
        )
        # Counted when they were claimed.
        finished.selected, finished.fingerprint = 0, 0
        result += finished
    return items, result


def preview_page(ending: Ending, page: Select[Any]) -> tuple[list[Claimed], BatchResult]:
    """Return a page of runs, and what ending them would do, in a READ ONLY transaction."""
    with transaction(ending.engine, read_only=True) as connection:
        items = _claimed(connection, page)
        ids = [item.id for item in items]
        result = selected(ids)
        stuck = read_stuck(connection, ids, ending.cutoff, ending.timeout) if ids else []
        if stuck:
            result.rows[runs.name] += len(stuck)
            result.rows[attempts.name] += sum(run.attempt_id is not None for run in stuck)
            before = _same_submissions(ending, connection, items)
            result += preview_end(connection, [run.id for run in stuck], before)
    execution_ids = [run.execution_id for run in stuck if run.execution_id]
    result += ending.finisher.preview([run.id for run in stuck], execution_ids)
    return items, result


def _end_rows(
    ending: Ending, claim: Select[Any], ended: list[StuckRun]
) -> tuple[list[Claimed], BatchResult]:
    """End the rows of the runs that `claim` selects, and add those to `ended` once committed."""
    items: list[Claimed] = []
    try:
        with transaction(ending.engine) as connection:
            items = _claimed(connection, claim)
            stuck, result = _end_claimed(ending, connection, items)
    except (RowRefused, LockTimeout) as fault:
        if not items:
            raise
        return items, _isolate(ending, claim, items, fault, ended)
    ended += stuck
    return items, result


def _end_claimed(
    ending: Ending, connection: Connection, items: Sequence[Claimed]
) -> tuple[list[StuckRun], BatchResult]:
    ids = [item.id for item in items]
    result = selected(ids)
    if not items:
        return [], result
    locked = lock_attempts(connection, ids)
    still = read_stuck(connection, ids, ending.cutoff, ending.timeout)
    free = [run for run in still if run.attempt_id is None or run.attempt_id in locked]
    result.skipped = len(items) - len(still)
    result.deferred = len(still) - len(free)
    if free:
        result.rows = end_runs(connection, free)
    return free, result


def _isolate(
    ending: Ending,
    claim: Select[Any],
    items: Sequence[Claimed],
    fault: Fault,
    ended: list[StuckRun],
) -> BatchResult:
    def again(part: Sequence[Claimed]) -> BatchResult:
        narrowed = claim.where(RUNS.id == any_uuid([item.id for item in part]))
        return _end_rows(ending, narrowed, ended)[1]

    def alone(item: Claimed, fault: Fault) -> BatchResult:
        result = selected([item.id])
        if isinstance(fault, LockTimeout):
            result.deferred = 1
        else:
            result.fail(f"run {item.id}", str(fault))
        return result

    return bisect(items, fault, again, alone)


def _same_submissions(
    ending: Ending, connection: Connection, items: Sequence[Claimed]
) -> list[UUID]:
    """Return the runs of the page's submissions that would have ended by the end of the page."""
    page = select(RUNS.submission_id).where(RUNS.id == any_uuid([item.id for item in items]))
    mine = [row.submission_id for row in connection.execute(page) if row.submission_id]
    edge = KeysetCursor(items[-1].moment, items[-1].id)
    earlier = stuck_runs(ending.cutoff, ending.timeout).where(
        RUNS.submission_id == any_uuid(mine), STUCK_BY_START.within(None, edge)
    )
    return [row.id for row in connection.execute(earlier)]


def _claimed(connection: Connection, claim: Select[Any]) -> list[Claimed]:
    return [Claimed(row.id, row.moment) for row in connection.execute(claim)]
