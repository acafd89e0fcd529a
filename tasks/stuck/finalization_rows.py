"""The rows of finalized runs: hash, deadline, released definition (SPEC 3, 6.4)."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, and_, case, func, literal, or_, select

from maintenance.report import BatchResult
from maintenance.retention import DO_NOT_STORE
from maintenance.schema import evidence, runs
from maintenance.schema.vocabulary import RunStatus
from tasks.batching.arrays import any_uuid, text_array, uuid_array
from tasks.columns import RUNS
from tasks.purge.output_deadlines import repair_submissions_of_runs
from tasks.purge.output_selection import new_deadline, new_end, unknown_policy
from tasks.stuck.evidence_rows import Receipt, write_receipts


def lock_timed_out(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, UUID | None]:
    """Lock the TIMED_OUT ones of these runs; return them, each with its submission.

    Rows that are locked already are left out.
    """
    found = (
        select(RUNS.id, RUNS.submission_id)
        .where(RUNS.id == any_uuid(ids), RUNS.status == RunStatus.TIMED_OUT)
        .with_for_update(of=runs, skip_locked=True, key_share=True)
    )
    return {row.id: row.submission_id for row in connection.execute(found)}


def timed_out(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Return which of the runs are TIMED_OUT, locked or not."""
    found = select(RUNS.id).where(RUNS.id == any_uuid(ids), RUNS.status == RunStatus.TIMED_OUT)
    return {row.id for row in connection.execute(found)}


def finalize_rows(
    connection: Connection, locked: dict[UUID, UUID | None], receipts: Sequence[Receipt]
) -> BatchResult:
    """Finalize locked runs: evidence, deadlines, queued purges, released definitions.

    `receipts` are those of the runs that lacked evidence. `modified` changes on evidence rows only.
    """
    result = BatchResult()
    result.rows_by_table[evidence.name] += write_receipts(connection, receipts)
    hashes = {one.run_id: one.output_hash for one in receipts}
    fresh = _fresh({run_id: hashes.get(run_id, "") for run_id in locked}).cte("fresh")
    new = {column.name.removeprefix("new_"): column for column in fresh.c if "new_" in column.name}
    rows = connection.execute(
        runs.update()
        .where(
            RUNS.id == fresh.c.id,
            or_(*(RUNS[name].is_distinct_from(column) for name, column in new.items())),
        )
        .values(new)
        .returning(fresh.c.policy, fresh.c.unknown)
    ).all()
    result.rows_by_table[runs.name] += len(rows)
    result.unknown_policies = Counter(row.policy for row in rows if row.unknown)
    affected = sorted({one for one in locked.values() if one is not None})
    if affected:
        result += repair_submissions_of_runs(connection, affected)
        # Computed for every run that is finalized: not a repair.
        del result.repaired["deadlines repaired"]
    return result


def _fresh(hashes: dict[UUID, str]) -> Any:  # noqa: ANN401 - a SELECT of many columns
    """Select the new values of the runs' columns.

    When the outputs are purged, only the release of the definition is missing: the purge has set
    the rest.
    """
    given = select(
        func.unnest(uuid_array(list(hashes))).label("id"),
        func.unnest(text_array(list(hashes.values()))).label("output_hash"),
    ).subquery("given")
    unpurged = RUNS.output_purged_at.is_(None)
    unknown = and_(unpurged, unknown_policy())
    policy = RUNS.output_retention_policy
    new_hash = case(
        (and_(unpurged, RUNS.output_hash == ""), given.c.output_hash), else_=RUNS.output_hash
    )
    now = func.statement_timestamp()
    return select(
        RUNS.id,
        policy.label("policy"),
        unknown.label("unknown"),
        new_hash.label("new_output_hash"),
        case((unpurged, new_end()), else_=RUNS.ended_at).label("new_ended_at"),
        case((unpurged, new_deadline()), else_=RUNS.output_expires_at).label(
            "new_output_expires_at"
        ),
        case((unknown, literal(DO_NOT_STORE)), else_=policy).label("new_output_retention_policy"),
        func.coalesce(RUNS.definition_released_at, now).label("new_definition_released_at"),
    ).join(given, given.c.id == RUNS.id)
