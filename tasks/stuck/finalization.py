"""Finishing runs that timed out: evidence, deadlines, released definitions (SPEC 6.4).

First everything is read, set by set; then the manifests are stored; then one short transaction
writes the rows. A manifest is complete and safe on its disk before a row speaks of it. Whatever
ends the process in between, the run is found unfinished by the next run of the job, which makes
the same bytes and finds the same file. One run's failure is written on its evidence row, with the
cause, and tried again by each later run.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from sqlalchemy import Connection, Engine, and_, false, func, or_, select

from maintenance.database import transaction
from maintenance.errors import LockTimeout, RowRefused
from maintenance.evidence import Manifest, Run, manifest
from maintenance.report import BatchResult
from maintenance.schema import evidence
from maintenance.schema.vocabulary import ErrorCategory, RunStatus
from maintenance.storage.layout import Stores
from maintenance.timed_out import ERROR_LIKE
from tasks.batching.bisection import Fault, bisect
from tasks.batching.keyset import KeysetCursor, KeysetOrder
from tasks.purge.output_selection import RUNS
from tasks.stuck.evidence_facts import is_there, read_lacking
from tasks.stuck.evidence_rows import Receipt, write_failures
from tasks.stuck.finalization_rows import finish_rows, lock_timed_out, timed_out

UNFINISHED_BY_END = KeysetOrder(RUNS.created, RUNS.id)

WINDOW = 5_000
"""So many TIMED_OUT runs are looked at by one statement, however few of them are unfinished."""

FIRST = datetime(1, 1, 2, tzinfo=UTC)
"""What was created earlier, in the database's `-infinity`, has no place in an order of times."""


@dataclass(frozen=True)
class Unfinished:
    """A page of unfinished runs, and where the next page starts.

    A page may hold few runs, or none, and not be the last one: only `exhausted` says that.
    """

    ids: list[UUID]
    place: KeysetCursor | None
    exhausted: bool


def finalize(engine: Engine, stores: Stores, run_ids: Sequence[UUID]) -> BatchResult:
    """Finish these runs: every one is done, failed, deferred or skipped.

    Returns:
        selected (with the fingerprint) = done + failed + deferred + skipped, of these runs alone:
        whoever has counted them already takes over `failed`, `failures`, rows and repairs only.
        failed: no evidence, with the cause. deferred: somebody holds the run's row; a later run of
        the job finds it. skipped: the run is not TIMED_OUT (any more). rows: by table.
        repaired: "purges queued". files and bytes stay 0 (a report says there what was deleted).

    Raises:
        DatabaseError: the database failed for a reason that is no row's fault.
        TransientStorageError: the storage service does not answer.
    """
    ids = list(dict.fromkeys(run_ids))
    if not ids:
        return BatchResult()
    return _finish(engine, _store(engine, stores, ids), ids)


def unfinished_runs(
    connection: Connection, after: KeysetCursor | None, limit: int, as_of: datetime
) -> Unfinished:
    """Return the next runs of this job that a crash left unfinished, by `created`; only reads.

    This is all that a dry run needs: `finalize` selects exactly the runs of the pages. Unfinished
    is a run without evidence, or with its workflow's definition still held. A run whose outputs
    were purged before it was finished has lost the error text that it was known by.
    """
    held = RUNS.definition_released_at.is_(None)
    purged = and_(RUNS.output_purged_at.is_not(None), RUNS.error == "")
    # A scalar subquery is one look into an index for each run. An EXISTS may be turned into a hash
    # of all evidence that there is.
    there = select(is_there()).where(evidence.c.run_id == RUNS.id).scalar_subquery()
    unfinished = and_(
        RUNS.error_category == ErrorCategory.TIMEOUT,
        # What this run of the job has ended itself is not met a second time.
        RUNS.modified < as_of,
        or_(RUNS.error.like(ERROR_LIKE), and_(held, purged)),
        or_(held, ~func.coalesce(there, false())),
    )
    window = max(limit, WINDOW)
    found = connection.execute(
        select(RUNS.created, RUNS.id, unfinished.label("unfinished"))
        .where(
            RUNS.status == RunStatus.TIMED_OUT,
            RUNS.created >= FIRST,
            RUNS.created <= as_of,
            UNFINISHED_BY_END.after(after),
        )
        .order_by(RUNS.created, RUNS.id)
        .limit(window)
    ).all()
    ids: list[UUID] = []
    for row in found:
        if row.unfinished:
            ids.append(row.id)
        if len(ids) == limit:
            return Unfinished(ids, KeysetCursor(row.created, row.id), exhausted=False)
    last = KeysetCursor(found[-1].created, found[-1].id) if found else after
    return Unfinished(ids, last, exhausted=len(found) < window)


def _store(engine: Engine, stores: Stores, ids: Sequence[UUID]) -> dict[UUID, Receipt]:
    """Make and store the manifests of those runs that lack one."""
    receipts: dict[UUID, Receipt] = {}
    made: list[tuple[UUID, Manifest]] = []
    with transaction(engine, read_only=True) as connection:
        for run in read_lacking(connection, ids):
            draft = _draft(run)
            if isinstance(draft, Manifest):
                made.append((run.id, draft))
            else:
                receipts[run.id] = draft
    saved = stores.private.save_files([(one.key, one.content) for _, one in made])
    for (run_id, one), place in zip(made, saved, strict=True):
        if place.error is None:
            receipts[run_id] = Receipt(run_id, one.output_hash, place.key, one.sha256)
        else:
            receipts[run_id] = Receipt(run_id, one.output_hash, cause=place.error)
    return receipts


def _draft(run: Run) -> Manifest | Receipt:
    try:
        return manifest(run)
    except (ValueError, OverflowError, RecursionError) as error:
        # The error's own text may quote the value.
        cause = f"a value or time of the run cannot be read ({type(error).__name__})"
        return Receipt(run.id, cause=cause)


def _finish(engine: Engine, receipts: Mapping[UUID, Receipt], ids: Sequence[UUID]) -> BatchResult:
    """Write the rows of a batch; a refused one is split until it is the one run's at fault."""
    try:
        with transaction(engine) as connection:
            return _finish_locked(connection, receipts, ids)
    except (RowRefused, LockTimeout) as fault:
        again = partial(_finish, engine, receipts)
        return bisect(ids, fault, again, partial(_alone, engine))


def _finish_locked(
    connection: Connection, receipts: Mapping[UUID, Receipt], ids: Sequence[UUID]
) -> BatchResult:
    result = BatchResult.selecting([run_id.int for run_id in ids])
    locked = lock_timed_out(connection, ids)
    if locked:
        lacking = [receipts[run_id] for run_id in locked if run_id in receipts]
        result += finish_rows(connection, locked, lacking)
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
    result = BatchResult.selecting([run_id.int])
    if isinstance(fault, LockTimeout):
        result.deferred = 1
        return result
    result.fail(f"run {run_id}", str(fault))
    # What refused the run's rows may refuse this one, too: then only the report says so.
    with suppress(RowRefused, LockTimeout), transaction(engine) as connection:
        result.rows[evidence.name] += write_failures(connection, {run_id: str(fault)})
    return result
