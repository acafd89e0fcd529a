"""What finishing runs would write, counted for a dry run without writing it (SPEC 2.2, 6.4).

Of runs that are only to be ended, the rows are counted as if they had ended: with them, no other
run of their submission may be active.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from maintenance.report import BatchResult
from maintenance.retention import DO_NOT_STORE, INPUT_DAYS, INPUT_POLICIES
from maintenance.schema import evidence, purge_retries, runs, submissions
from maintenance.schema.vocabulary import TERMINAL_RUN_STATUSES, RunStatus
from tasks.batching.arrays import any_uuid
from tasks.purge.output_deadlines import count_followed
from tasks.purge.output_selection import new_deadline, unknown_policy
from tasks.purge.retry_queue import count_queueable
from tasks.purge.submission_selection import SUBMISSIONS
from tasks.stuck.evidence_facts import has_evidence
from tasks.stuck.selection import RUNS


def preview_finish(connection: Connection, run_ids: Sequence[UUID]) -> BatchResult:
    """Return which rows finishing these runs, which have ended, would write."""
    result = _preview_runs(connection, run_ids)
    affected = _submissions(connection, run_ids)
    if affected:
        result += count_followed(connection, affected, RUNS.ended_at)
        del result.repaired["deadlines repaired"]
    return result


def preview_end(
    connection: Connection, run_ids: Sequence[UUID], others: Sequence[UUID]
) -> BatchResult:
    """Return which rows finishing these runs would write once they are ended.

    Args:
        connection: a READ ONLY transaction.
        run_ids: the runs.
        others: runs of the same submissions that would have ended before.
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
    result.rows[evidence.name] += len(lacking)
    result.rows[runs.name] += connection.execute(changed).scalar_one()
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
    """Return whether a run's own row would be written again after its end.

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
        # A finite deadline counts from the latest end, which is now.
        if row.retention_policy in INPUT_DAYS
        or row.expires_at is not None
        or row.retention_policy not in INPUT_POLICIES
    ]
    result.rows[submissions.name] += len(wrong)
    unknown = [row.retention_policy for row in found if row.retention_policy not in INPUT_POLICIES]
    result.unknown_policies = Counter(unknown)
    queued = [
        row.id
        for row in found
        if row.retention_policy == DO_NOT_STORE or row.retention_policy not in INPUT_POLICIES
    ]
    if queued:
        number = count_queueable(connection, queued)
        result.repaired["purges queued"] += number
        result.rows[purge_retries.name] += number
    return result
