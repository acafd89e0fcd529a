"""Purging claimed submissions, one batch a transaction (SPEC 5.1).

The order inside the transaction is what makes it safe: claim, look again, delete the bytes,
change the rows, commit. Whatever ends the process in between, nothing is stamped whose bytes
exist, and the next run finds the submission again. Files may be deleted twice; deleting what is
absent is success.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Select

from maintenance.database import engine_for, transaction
from maintenance.errors import LockTimeout, RowRefused
from maintenance.report import BatchResult
from maintenance.retention import submission_deadline
from maintenance.schema import submissions
from maintenance.settings import settings
from maintenance.storage.layout import Stores, open_stores
from tasks.batching.arrays import any_uuid
from tasks.batching.bisection import Fault, bisect
from tasks.batching.row_changes import apply_changes, count_changes
from tasks.purge.options import PurgeOptions
from tasks.purge.retry_queue import queue_changes, record_failures
from tasks.purge.submission_files import measure_files, remove_files
from tasks.purge.submission_rows import SubmissionItem, purge_changes, read_related


@dataclass(frozen=True)
class Purge:
    """How to purge: where, and under which condition.

    Attributes:
        engine: the database.
        stores: where the files are.
        redact_traces: clear the payload-derived values of input traces too.
        deadline: content whose recomputed deadline is later stays. None: the items come from the
            purge queue, and go whatever their policy says (SPEC 5.4).
        with_uris: look up which objects in buckets the runs' rows name as outputs.
    """

    engine: Engine
    stores: Stores
    redact_traces: bool
    deadline: datetime | None
    with_uris: bool = True


@dataclass
class Sorted:
    """Claimed submissions, by what is to be done with them."""

    ready: list[SubmissionItem]
    deferred: list[SubmissionItem]
    skipped: list[SubmissionItem]


@contextmanager
def open_purge(options: PurgeOptions, deadline: datetime | None) -> Iterator[Purge]:
    """Open what a purge needs, as the settings say, for the length of the block.

    Raises:
        StorageError: a storage root is missing.
    """
    current = settings()
    with open_stores(current) as stores:
        yield Purge(
            engine_for(current, options.job),
            stores,
            current.redact_input_traces,
            deadline,
            with_uris=current.data_storage_backend != "local",
        )


def purge_batch(purge: Purge, claim: Select[Any]) -> tuple[list[SubmissionItem], BatchResult]:
    """Purge the submissions that `claim` selects and locks.

    A database error that is a row's fault, or a row of a submission that the application has
    locked, splits the batch until it is one submission's: that one fails or is deferred, the
    others are purged.

    Args:
        purge: how to purge.
        claim: a SELECT of id, moment, created, retention_policy, input_file and purged, with FOR
            UPDATE SKIP LOCKED.

    Returns:
        The claimed submissions in the order of the claim, and what became of them.

    Raises:
        DatabaseError: the database failed for a reason that is no row's fault.
    """
    items: list[SubmissionItem] = []
    causes: dict[UUID, str] = {}
    try:
        with transaction(purge.engine) as connection:
            items = claimed(connection, claim)
            result = _purge_claimed(purge, connection, items, causes)
    except (RowRefused, LockTimeout) as fault:
        if not items:
            raise
        return items, _isolate(purge, claim, items, fault)
    record_failures(purge.engine, causes)
    return items, result


def preview_purge(
    purge: Purge, connection: Connection, items: Sequence[SubmissionItem]
) -> BatchResult:
    """Return what purging these submissions would do, without changing anything."""
    result = selected(items)
    if not items:
        return result
    read_related(connection, items, with_uris=purge.with_uris)
    parts = _sort(purge, items)
    result.deferred, result.skipped = len(parts.deferred), len(parts.skipped)
    for removal in measure_files(purge.stores, parts.ready).values():
        result.files += removal.files
        result.bytes += removal.bytes
    result.rows = count_changes(
        connection, purge_changes(parts.ready, redact_traces=purge.redact_traces)
    )
    result.rows.update(count_changes(connection, _queue_changes(purge, parts)))
    return result


def preview_page(purge: Purge, page: Select[Any]) -> tuple[list[SubmissionItem], BatchResult]:
    """Return a page of submissions, and what purging them would do, in a READ ONLY transaction."""
    with transaction(purge.engine, read_only=True) as connection:
        items = claimed(connection, page)
        return items, preview_purge(purge, connection, items)


def claimed(connection: Connection, claim: Select[Any]) -> list[SubmissionItem]:
    """Return the submissions that a claim selects."""
    return [
        SubmissionItem(
            row.id, row.moment, row.created, row.retention_policy, row.input_file, row.purged
        )
        for row in connection.execute(claim)
    ]


def selected(items: Sequence[SubmissionItem]) -> BatchResult:
    """Return the result that begins with these items being selected."""
    return BatchResult.selecting([item.id.int for item in items])


def _purge_claimed(
    purge: Purge, connection: Connection, items: Sequence[SubmissionItem], causes: dict[UUID, str]
) -> BatchResult:
    result = selected(items)
    if not items:
        return result
    read_related(connection, items, with_uris=purge.with_uris)
    parts = _sort(purge, items)
    result.deferred, result.skipped = len(parts.deferred), len(parts.skipped)
    removals = remove_files(purge.stores, parts.ready)
    gone = []
    for item in parts.ready:
        removal = removals[item.id]
        result.files += removal.files
        result.bytes += removal.bytes
        if removal.error is None:
            gone.append(item)
        else:
            causes[item.id] = removal.error
            result.fail(f"submission {item.id}", removal.error)
    if gone:
        result.rows = apply_changes(
            connection, purge_changes(gone, redact_traces=purge.redact_traces)
        )
    result.rows.update(apply_changes(connection, _queue_changes(purge, parts)))
    result.done = len(gone)
    return result


def _sort(purge: Purge, items: Sequence[SubmissionItem]) -> Sorted:
    """Judge claimed submissions by what was read after the claim."""
    parts = Sorted([], [], [])
    for item in items:
        if item.purged:
            parts.skipped.append(item)
        elif item.active:
            parts.deferred.append(item)
        elif purge.deadline is not None and not _deadline_passed(item, purge.deadline):
            parts.skipped.append(item)
        else:
            parts.ready.append(item)
    return parts


def _queue_changes(purge: Purge, parts: Sorted) -> Any:  # noqa: ANN401 - as `apply` takes them
    if purge.deadline is not None:
        return []
    return queue_changes(
        postponed=[item.id for item in parts.deferred], dropped=[item.id for item in parts.skipped]
    )


def _isolate(
    purge: Purge, claim: Select[Any], items: Sequence[SubmissionItem], fault: Fault
) -> BatchResult:
    def again(part: Sequence[SubmissionItem]) -> BatchResult:
        narrowed = claim.where(submissions.c.id == any_uuid([item.id for item in part]))
        return purge_batch(purge, narrowed)[1]

    def alone(item: SubmissionItem, fault: Fault) -> BatchResult:
        result = selected([item])
        if isinstance(fault, LockTimeout):
            result.deferred = 1
        else:
            result.fail(f"submission {item.id}", str(fault))
            record_failures(purge.engine, {item.id: str(fault)})
        return result

    return bisect(items, fault, again, alone)


def _deadline_passed(item: SubmissionItem, as_of: datetime) -> bool:
    deadline = submission_deadline(item.policy, item.created, item.ended_at)
    return deadline is not None and deadline <= as_of
