"""What finalizing runs would write, counted for a dry run (SPEC 2.2, 6.4).

For runs that have not timed out yet, the rows are counted as if they had.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from maintenance.report import BatchResult
from maintenance.retention import DO_NOT_STORE, INPUT_DAYS, INPUT_POLICIES
from maintenance.schema import evidence, runs, submissions
from maintenance.schema.vocabulary import TERMINAL_RUN_STATUSES, RunStatus
from tasks.batching.arrays import any_uuid
from tasks.columns import RUNS, SUBMISSIONS
from tasks.purge.output_deadlines import count_submissions_of_runs
from tasks.purge.output_selection import new_deadline, unknown_policy
from tasks.purge.repairs import purges_queued
from tasks.purge.retry_queue import count_queueable
from tasks.stuck.evidence_facts import has_evidence


def preview_finalization(connection: Connection, run_ids: Sequence[UUID]) -> BatchResult:
    """Return which rows finalizing these timed out runs would write."""
    result = _preview_runs(connection, run_ids)
    affected = _submissions(connection, run_ids)
    if affected:
        result += count_submissions_of_runs(connection, affected, RUNS.ended_at)
        del result.repaired["deadlines repaired"]
    return result


def preview_after_time_out(
    connection: Connection, run_ids: Sequence[UUID], others: Sequence[UUID]
) -> BatchResult:
    """Return which rows finalizing these runs would write once they have timed out.

    Args:
        connection: a READ ONLY transaction.
        run_ids: the runs.
        others: runs of the same submissions that would have timed out before.
    """
    result = _preview_runs(connection, run_ids)
    affected = _submissions(connection, run_ids)
    if affected:
        result += _preview_submissions(connection, affected, {*run_ids, *others})
    return result


def _preview_runs(connection: Connection, run_ids: Sequence[UUID]) -> BatchResult:
    result = BatchResult()
    mine = RUNS.id == any_uuid(run_ids)
    without = select(RUNS.id).where(mine, ~has_evidence(RUNS.id))
    lacking = [row.id for row in connection.execute(without)]
    changed = select(func.count()).where(mine, _would_change(lacking))
    result.rows_by_table[evidence.name] += len(lacking)
    result.rows_by_table[runs.name] += connection.execute(changed).scalar_one()
    unknown = select(RUNS.output_retention_policy, func.count()).where(
        mine, RUNS.output_purged_at.is_(None), unknown_policy()
    )
    for policy, number in connection.execute(unknown.group_by(RUNS.output_retention_policy)):
        result.unknown_policies[policy] += number
    return result


def _submissions(connection: Connection, run_ids: Sequence[UUID]) -> list[UUID]:
    found = select(RUNS.submission_id).where(
        RUNS.id == any_uuid(run_ids), RUNS.submission_id.is_not(None)
    )
    return sorted({row.submission_id for row in connection.execute(found)})


def _would_change(lacking: Sequence[UUID]) -> ColumnElement[bool]:
    """Return whether finalization would write a run's own row.

    `lacking`: the runs without evidence.
    """
    not_dated = and_(RUNS.status == RunStatus.TIMED_OUT, RUNS.ended_at.is_(None))
    wrong = RUNS.output_expires_at.is_distinct_from(new_deadline())
    not_hashed = and_(RUNS.id == any_uuid(lacking), RUNS.output_hash == "")
    open_outputs = and_(
        RUNS.output_purged_at.is_(None), or_(not_dated, wrong, not_hashed, unknown_policy())
    )
    return or_(RUNS.definition_released_at.is_(None), open_outputs)


def _preview_submissions(
    connection: Connection, ids: Sequence[UUID], ended: set[UUID]
) -> BatchResult:
    """Return which submissions would get another deadline, and which would be queued."""
    result = BatchResult()
    active = select(RUNS.submission_id, RUNS.id).where(
        RUNS.submission_id == any_uuid(ids), RUNS.status.not_in(TERMINAL_RUN_STATUSES)
    )
    running: dict[UUID, set[UUID]] = defaultdict(set)
    for submission_id, run_id in connection.execute(active):
        running[submission_id].add(run_id)
    settled = [one for one in ids if running[one] <= ended]
    found = connection.execute(
        select(SUBMISSIONS.id, SUBMISSIONS.retention_policy, SUBMISSIONS.expires_at).where(
            SUBMISSIONS.id == any_uuid(settled), SUBMISSIONS.content_purged_at.is_(None)
        )
    ).all()
    wrong = [
        row
        for row in found
        # A finite deadline is computed from the latest end, which is now.
        if row.retention_policy in INPUT_DAYS
        or row.expires_at is not None
        or row.retention_policy not in INPUT_POLICIES
    ]
    result.rows_by_table[submissions.name] += len(wrong)
    unknown = [row for row in found if row.retention_policy not in INPUT_POLICIES]
    result.unknown_policies = Counter(row.retention_policy for row in unknown)
    queued = [row.id for row in found if row.retention_policy == DO_NOT_STORE or row in unknown]
    if queued:
        result += purges_queued(count_queueable(connection, queued))
    return result
