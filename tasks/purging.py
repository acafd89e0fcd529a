"""Purging claimed submissions, one batch a transaction (SPEC 5.1).

The order inside the transaction is what makes it safe: claim, look again, delete the bytes,
change the rows, commit. Whatever ends the process in between, nothing is stamped whose bytes
exist, and the next run finds the submission again. Files may be deleted twice; deleting what is
absent is success.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine, Select

from maintenance.database import transaction
from maintenance.errors import LockTimeout, RowRefused
from maintenance.report import FINGERPRINT_MODULUS, BatchResult
from maintenance.retention import submission_deadline
from maintenance.schema import submissions
from maintenance.storage.layout import Stores
from tasks.arrays import any_uuid
from tasks.changes import apply, count
from tasks.purge_queue import record_failures
from tasks.submission_files import measure_files, remove_files
from tasks.submission_rows import SubmissionItem, purge_changes, read_related

Claim = Select[tuple[UUID, datetime, datetime, str, str | None]]


@dataclass(frozen=True)
class Purge:
    """How to purge: where, and under which condition.

    Attributes:
        engine: the database.
        stores: where the files are.
        deadline: content whose recomputed deadline is later stays; None purges whatever the
            policy says (SPEC 5.4).
        redact_traces: clear the payload-derived values of input traces too.
    """

    engine: Engine
    stores: Stores
    deadline: datetime | None
    redact_traces: bool


def purge_batch(purge: Purge, claim: Claim) -> tuple[list[SubmissionItem], BatchResult]:
    """Purge the submissions that `claim` selects and locks.

    A database error that is a row's fault, or a row of a submission that the application has
    locked, splits the batch until it is one submission's: that one fails or is deferred, the
    others are purged.

    Args:
        purge: how to purge.
        claim: a SELECT of id, expires_at, created, policy, input_file with FOR UPDATE SKIP LOCKED.

    Returns:
        The claimed submissions in the order of the claim, and what became of them.

    Raises:
        DatabaseError: the database failed for a reason that is no row's fault.
    """
    items: list[SubmissionItem] = []
    causes: dict[UUID, str] = {}
    try:
        with transaction(purge.engine) as connection:
            items = _claimed(connection, claim)
            result = _purge_claimed(purge, connection, items, causes)
    except (RowRefused, LockTimeout) as error:
        if not items:
            raise
        return items, _isolate(purge, claim, items, error)
    record_failures(purge.engine, causes)
    return items, result


def preview_purge(
    purge: Purge, connection: Connection, items: Sequence[SubmissionItem]
) -> BatchResult:
    """Return what purging these submissions would do, without changing anything."""
    read_related(connection, items)
    result = _selected(items)
    for removal in measure_files(purge.stores, items).values():
        result.files += removal.files
        result.bytes += removal.bytes
    result.rows = count(connection, purge_changes(items, redact_traces=purge.redact_traces))
    return result


def _claimed(connection: Connection, claim: Claim) -> list[SubmissionItem]:
    return [
        SubmissionItem(row.id, row.expires_at, row.created, row.retention_policy, row.input_file)
        for row in connection.execute(claim)
    ]


def _purge_claimed(
    purge: Purge, connection: Connection, items: Sequence[SubmissionItem], causes: dict[UUID, str]
) -> BatchResult:
    result = _selected(items)
    if not items:
        return result
    read_related(connection, items)
    ready = []
    for item in items:
        if item.active:
            result.deferred += 1
        elif purge.deadline is not None and not _deadline_passed(item, purge.deadline):
            result.skipped += 1
        else:
            ready.append(item)
    gone = []
    for item, removal in zip(ready, remove_files(purge.stores, ready).values(), strict=True):
        result.files += removal.files
        result.bytes += removal.bytes
        if removal.error is None:
            gone.append(item)
        else:
            causes[item.id] = removal.error
            result.fail(f"submission {item.id}", removal.error)
    if gone:
        result.rows = apply(connection, purge_changes(gone, redact_traces=purge.redact_traces))
    result.done = len(gone)
    return result


def _isolate(
    purge: Purge, claim: Claim, items: Sequence[SubmissionItem], error: RowRefused | LockTimeout
) -> BatchResult:
    if len(items) == 1:
        result = _selected(items)
        if isinstance(error, LockTimeout):
            result.deferred = 1
        else:
            result.fail(f"submission {items[0].id}", str(error))
            record_failures(purge.engine, {items[0].id: str(error)})
        return result
    result = BatchResult()
    middle = len(items) // 2
    for half in (items[:middle], items[middle:]):
        again = claim.where(submissions.c.id == any_uuid([item.id for item in half]))
        result += purge_batch(purge, again)[1]
    return result


def _selected(items: Sequence[SubmissionItem]) -> BatchResult:
    fingerprint = sum(item.id.int for item in items) % FINGERPRINT_MODULUS
    return BatchResult(selected=len(items), fingerprint=fingerprint)


def _deadline_passed(item: SubmissionItem, as_of: datetime) -> bool:
    deadline = submission_deadline(item.policy, item.created, item.ended_at)
    return deadline is not None and deadline <= as_of
