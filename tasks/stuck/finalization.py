"""Finalization of runs that timed out: evidence, deadlines, released definitions (SPEC 6.4).

All facts are read first; then the manifests are stored; then one short transaction writes the rows.
A manifest is complete and durable before a row names it. Wherever the process ends in between, the
next run of the job finds that the run is not finalized, makes the same bytes and finds the same
file. A failure is recorded on the run's evidence row; each later run of the job tries again.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from sqlalchemy import Connection, Engine, and_, false, func, or_, select

from maintenance.database import transaction
from maintenance.errors import LockTimeout
from maintenance.evidence import Manifest, Run, manifest
from maintenance.report import BatchResult
from maintenance.schema import evidence
from maintenance.schema.vocabulary import ErrorCategory, RunStatus
from maintenance.storage.layout import Stores
from maintenance.timed_out import ERROR_LIKE
from tasks.batching.bisection import FAULTS, Fault, Steps, bisect, left
from tasks.batching.claims import selected
from tasks.batching.keyset import KeysetCursor, KeysetOrder
from tasks.columns import RUNS
from tasks.stuck.evidence_facts import is_generated, read_lacking
from tasks.stuck.evidence_rows import Receipt, write_failures
from tasks.stuck.finalization_rows import finalize_rows, lock_timed_out, timed_out

UNFINALIZED_BY_CREATED = KeysetOrder(RUNS.created, RUNS.id)

WINDOW = 5_000
"""TIMED_OUT runs that one statement reads, however few of them are not finalized."""

FIRST = datetime(1, 1, 2, tzinfo=UTC)
"""Runs with an earlier `created` (`-infinity`) are not selected: a cursor cannot hold it."""


@dataclass(frozen=True)
class UnfinalizedPage:
    """A page of runs that are not finalized, and where the next page starts.

    A page may be empty and not be the last one: see `exhausted`.
    """

    ids: list[UUID]
    cursor: KeysetCursor | None
    exhausted: bool


def finalize(engine: Engine, stores: Stores, run_ids: Sequence[UUID]) -> BatchResult:
    """Finalize these runs: every one is done, failed, deferred or skipped.

    Returns:
        selected (with the fingerprint) = done + failed + deferred + skipped. failed: no evidence,
        with the cause. deferred: the run's row is locked; a later run of the job selects it again.
        skipped: the run is not TIMED_OUT. repaired: "purges queued". files and bytes are 0.

    Raises:
        DatabaseError: the database failed for a reason that is no row's fault.
        TransientStorageError: the storage service does not answer.
    """
    ids = list(dict.fromkeys(run_ids))
    if not ids:
        return BatchResult()
    receipts = _store(engine, stores, ids)
    steps = Steps(
        partial(_write, engine, receipts), partial(_alone, engine), lambda others, _: left(others)
    )
    return bisect(ids, steps)


def unfinalized_runs(
    connection: Connection, after: KeysetCursor | None, limit: int, as_of: datetime
) -> UnfinalizedPage:
    """Return the next runs that this job timed out and did not finalize, by `created`; only reads.

    Not finalized is a run without evidence, or one that still holds its workflow's definition. A
    run whose outputs were purged before that has lost the error text that names this job.
    """
    held = RUNS.definition_released_at.is_(None)
    purged = and_(RUNS.output_purged_at.is_not(None), RUNS.error == "")
    # A scalar subquery is one index scan for each run. An EXISTS may become a hash of all evidence.
    there = select(is_generated()).where(evidence.c.run_id == RUNS.id).scalar_subquery()
    unfinalized = and_(
        RUNS.error_category == ErrorCategory.TIMEOUT,
        # Not those that this run of the job has timed out itself.
        RUNS.modified < as_of,
        or_(RUNS.error.like(ERROR_LIKE), and_(held, purged)),
        or_(held, ~func.coalesce(there, false())),
    )
    window = max(limit, WINDOW)
    found = connection.execute(
        select(RUNS.created, RUNS.id, unfinalized.label("unfinalized"))
        .where(
            RUNS.status == RunStatus.TIMED_OUT,
            RUNS.created >= FIRST,
            RUNS.created <= as_of,
            UNFINALIZED_BY_CREATED.after(after),
        )
        .order_by(RUNS.created, RUNS.id)
        .limit(window)
    ).all()
    ids: list[UUID] = []
    for row in found:
        if row.unfinalized:
            ids.append(row.id)
        if len(ids) == limit:
            return UnfinalizedPage(ids, KeysetCursor(row.created, row.id), exhausted=False)
    last = KeysetCursor(found[-1].created, found[-1].id) if found else after
    return UnfinalizedPage(ids, last, exhausted=len(found) < window)


def _store(engine: Engine, stores: Stores, ids: Sequence[UUID]) -> dict[UUID, Receipt]:
    """Make and store the missing manifests of these runs."""
    receipts: dict[UUID, Receipt] = {}
    made: list[tuple[UUID, Manifest]] = []
    with transaction(engine, read_only=True) as connection:
        for run in read_lacking(connection, ids):
            draft = _draft(run)
            if isinstance(draft, Manifest):
                made.append((run.id, draft))
            else:
                receipts[run.id] = draft
    stores.verify()
    saved = stores.private.save_files([(one.key, one.content) for _, one in made])
    for (run_id, one), file in zip(made, saved, strict=True):
        if file.error is None:
            receipts[run_id] = Receipt(run_id, one.output_hash, file.key, one.sha256)
        else:
            cause = f"{stores.private.place}: {file.error}"
            receipts[run_id] = Receipt(run_id, one.output_hash, cause=cause)
    return receipts


def _draft(run: Run) -> Manifest | Receipt:
    try:
        return manifest(run)
    except (ValueError, OverflowError, RecursionError) as error:
        # The error's text may quote the value.
        cause = f"a value or time of the run cannot be read ({type(error).__name__})"
        return Receipt(run.id, cause=cause)


def _write(engine: Engine, receipts: Mapping[UUID, Receipt], ids: Sequence[UUID]) -> BatchResult:
    """Write the rows of a batch in one transaction."""
    with transaction(engine) as connection:
        return _write_locked(connection, receipts, ids)


def _write_locked(
    connection: Connection, receipts: Mapping[UUID, Receipt], ids: Sequence[UUID]
) -> BatchResult:
    result = selected(ids)
    locked = lock_timed_out(connection, ids)
    if locked:
        lacking = [receipts[run_id] for run_id in locked if run_id in receipts]
        result += finalize_rows(connection, locked, lacking)
        for receipt in lacking:
            if receipt.cause:
                result.fail(f"run {receipt.run_id}", receipt.cause)
        result.done = len(locked) - result.failed
    others = [run_id for run_id in ids if run_id not in locked]
    if others:
        result.deferred = len(timed_out(connection, others))
        result.skipped = len(others) - result.deferred
    return result


def _alone(engine: Engine, run_id: UUID, fault: Fault) -> BatchResult:
    result = selected([run_id])
    if isinstance(fault, LockTimeout):
        result.deferred = 1
        return result
    result.fail(f"run {run_id}", str(fault))
    result.refused = 1
    # The same trigger or constraint may refuse this row, too: then only the report has the cause.
    with suppress(*FAULTS), transaction(engine) as connection:
        result.rows_by_table[evidence.name] += write_failures(connection, {run_id: str(fault)})
    return result
