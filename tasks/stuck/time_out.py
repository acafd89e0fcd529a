"""Timing out claimed runs that hang, one batch a transaction, and their follow-up (SPEC 6).

The order inside the transaction is: claim the runs, lock their attempts, re-check, change the rows,
commit. A callback that commits first wins: its run is not selected any more, or the re-check
leaves it out. A later callback waits for the commit, and finds the run TIMED_OUT.

The follow-up comes after the commit. Wherever the process ends in between, the next run of the job
finds that these runs are not finalized, and repeats the follow-up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Select, select

from maintenance.cutoff import Cutoff
from maintenance.report import BatchResult
from maintenance.schema import attempts, runs
from maintenance.schema.base import NEWEST, Version
from tasks.batching.arrays import any_uuid
from tasks.batching.claims import BatchSteps, preview_claim, work_claim
from tasks.batching.keyset import KeysetCursor
from tasks.columns import RUNS
from tasks.stuck.finalization_preview import preview_after_time_out
from tasks.stuck.follow_up import FollowUp
from tasks.stuck.rows import ClaimedRun, StuckRun, lock_attempts, read_stuck, write_time_outs
from tasks.stuck.selection import STUCK_BY_START, stuck_runs


@dataclass(frozen=True)
class TimeOut:
    """How to time out runs: database, cutoff, how long a run may last, and the follow-up.

    `version` is that of the database's tables.
    """

    engine: Engine
    cutoff: Cutoff
    timeout: timedelta
    follow_up: FollowUp
    version: Version = NEWEST


def time_out_batch(work: TimeOut, claim: Select[Any]) -> tuple[list[ClaimedRun], BatchResult]:
    """Time out the runs that `claim` selects and locks; then follow them up.

    Returns:
        The claimed runs in the order of the claim, and what became of them.

    Raises:
        DatabaseError: the database failed for a reason that no row is at fault for.
    """
    timed_out: list[StuckRun] = []
    items, result = work_claim(work.engine, _steps(work, timed_out), claim)
    if timed_out:
        followed = work.follow_up.start(*_ids(timed_out))
        # Counted when they were claimed.
        followed.selected, followed.fingerprint = 0, None
        result += followed
    return items, result


def preview_time_out(work: TimeOut, page: Select[Any]) -> tuple[list[ClaimedRun], BatchResult]:
    """Return a page of runs, and what timing them out would do; READ ONLY."""
    items, result = preview_claim(work.engine, _steps(work, []), page)
    result += work.follow_up.preview(*_ids([item.stuck for item in items if item.stuck]))
    return items, result


def _steps(work: TimeOut, timed_out: list[StuckRun]) -> BatchSteps[ClaimedRun]:
    """Return how a batch of runs is timed out; `timed_out` gets those that are committed."""

    def remember(items: Sequence[ClaimedRun]) -> None:
        timed_out.extend(item.stuck for item in items if item.stuck and item.error is None)

    return BatchSteps(
        kind="run",
        key=runs.c.id,
        read=lambda row: ClaimedRun(row.id, row.moment),
        act=partial(_time_out, work),
        preview=partial(_preview, work),
        after=remember,
    )


def _time_out(work: TimeOut, connection: Connection, items: Sequence[ClaimedRun]) -> BatchResult:
    ids = [item.id for item in items]
    locked = lock_attempts(connection, ids)
    stuck = read_stuck(connection, ids, work.cutoff, work.timeout, work.version)
    free = [run for run in stuck if run.attempt_id is None or run.attempt_id in locked]
    result = BatchResult(skipped=len(items) - len(stuck), deferred=len(stuck) - len(free))
    _note(items, free)
    if free:
        result.rows_by_table = write_time_outs(connection, free)
    return result


def _preview(work: TimeOut, connection: Connection, items: Sequence[ClaimedRun]) -> BatchResult:
    result = BatchResult()
    ids = [item.id for item in items]
    stuck = read_stuck(connection, ids, work.cutoff, work.timeout, work.version)
    _note(items, stuck)
    if stuck:
        result.rows_by_table[runs.name] += len(stuck)
        result.rows_by_table[attempts.name] += sum(run.attempt_id is not None for run in stuck)
        before = _same_submissions(work, connection, items)
        result += preview_after_time_out(connection, [run.id for run in stuck], before)
    return result


def _note(items: Sequence[ClaimedRun], stuck: Sequence[StuckRun]) -> None:
    by_id = {run.id: run for run in stuck}
    for item in items:
        item.stuck = by_id.get(item.id)


def _ids(stuck: Sequence[StuckRun]) -> tuple[list[UUID], list[str]]:
    """Return the runs, and what providers call the executions of their attempts."""
    return [run.id for run in stuck], [run.execution_id for run in stuck if run.execution_id]


def _same_submissions(
    work: TimeOut, connection: Connection, items: Sequence[ClaimedRun]
) -> list[UUID]:
    """Return the runs of the page's submissions that would have timed out by the end of it."""
    page = select(RUNS.submission_id).where(RUNS.id == any_uuid([item.id for item in items]))
    mine = [row.submission_id for row in connection.execute(page) if row.submission_id]
    edge = KeysetCursor(items[-1].moment, items[-1].id)
    earlier = stuck_runs(work.cutoff, work.timeout, work.version).where(
        RUNS.submission_id == any_uuid(mine), STUCK_BY_START.within(None, edge)
    )
    return [row.id for row in connection.execute(earlier)]
