"""Purging claimed submissions, one batch a transaction (SPEC 5.1).

The order inside the transaction is what makes it safe: claim, re-check, delete the files of the
runs, change the rows, delete the submissions' own files, commit. Wherever the process ends, no row
is stamped whose bytes exist, and the next run selects the submission again. A row that the database
refuses keeps its own file, unless it is refused at the commit. Files may be deleted twice; deleting
an absent file is success.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row

from maintenance.report import BatchResult
from maintenance.retention import submission_deadline
from maintenance.schema import submissions
from maintenance.storage.layout import copied_inputs
from maintenance.storage.permit import Permit
from tasks.batching.claims import BatchSteps
from tasks.batching.row_changes import Changes, apply_changes, count_changes
from tasks.purge.files import (
    delete_files,
    delete_own_files,
    measure_files,
    measure_own_files,
)
from tasks.purge.options import Purge
from tasks.purge.retry_queue import queue_changes, record_failures
from tasks.purge.submission_rows import SubmissionItem, purge_changes, read_related

KIND = "submission"
"""What an item is called in the report."""


@dataclass
class Sorted:
    """Claimed submissions, by what is to be done with them."""

    ready: list[SubmissionItem] = field(default_factory=list)
    deferred: list[SubmissionItem] = field(default_factory=list)
    skipped: list[SubmissionItem] = field(default_factory=list)


def submission_steps(purge: Purge, deadline: datetime | None) -> BatchSteps[SubmissionItem]:
    """Return how a batch of submissions is purged.

    The claim is a SELECT of id, moment, created, retention_policy, input_file and purged.

    Args:
        purge: where to purge.
        deadline: content whose recomputed deadline is later stays. None: the items come from the
            purge queue, and are purged whatever their policy says (SPEC 5.4).
    """
    return BatchSteps(
        kind=KIND,
        key=submissions.c.id,
        read=_read,
        act=partial(_purge, purge, deadline),
        preview=partial(_preview, purge, deadline),
        after=partial(_record, purge),
        refused=lambda item: item.gone,
    )


def _read(row: Row[*tuple[Any, ...]]) -> SubmissionItem:
    return SubmissionItem(
        row.id, row.moment, row.created, row.retention_policy, row.input_file, row.purged
    )


def _purge(
    purge: Purge,
    deadline: datetime | None,
    connection: Connection,
    items: Sequence[SubmissionItem],
) -> BatchResult:
    read_related(connection, items, with_uris=purge.with_uris)
    parts = _sort(items, deadline)
    result = BatchResult(deferred=len(parts.deferred), skipped=len(parts.skipped))
    result.rows_by_table = apply_changes(connection, _queue_changes(parts, deadline))
    permit = purge.permit(connection)
    free = delete_files(purge.stores, parts.ready, copied_inputs, result, permit)
    gone, rows = _stamp_and_delete(purge, connection, free, result, permit)
    result.rows_by_table.update(rows)
    result.done = len(gone)
    result.stamped = [item.id for item in gone]
    purge.stores.verify()
    return result


def _stamp_and_delete(
    purge: Purge,
    connection: Connection,
    items: Sequence[SubmissionItem],
    result: BatchResult,
    permit: Permit,
) -> tuple[Sequence[SubmissionItem], Counter[str]]:
    """Change the rows, then delete the items' own files; return what is purged, rows by table.

    In this order, so that a submission whose row is refused keeps its own file.
    """
    if not any(item.own_key for item in items):
        return items, _stamp(purge, connection, items)
    savepoint = connection.begin_nested()
    rows = _stamp(purge, connection, items)
    gone = delete_own_files(purge.stores, items, result, permit)
    if len(gone) < len(items):
        savepoint.rollback()
        rows = _stamp(purge, connection, gone)
    return gone, rows


def _stamp(purge: Purge, connection: Connection, items: Sequence[SubmissionItem]) -> Counter[str]:
    if not items:
        return Counter()
    return apply_changes(connection, purge_changes(items, redact_traces=purge.redact_traces))


def _preview(
    purge: Purge,
    deadline: datetime | None,
    connection: Connection,
    items: Sequence[SubmissionItem],
) -> BatchResult:
    read_related(connection, items, with_uris=purge.with_uris)
    parts = _sort(items, deadline)
    result = BatchResult(deferred=len(parts.deferred), skipped=len(parts.skipped))
    measure_files(purge.stores, parts.ready, copied_inputs, result)
    measure_own_files(purge.stores, parts.ready, result)
    changes = purge_changes(parts.ready, redact_traces=purge.redact_traces)
    result.rows_by_table = count_changes(connection, [*changes, *_queue_changes(parts, deadline)])
    return result


def _record(purge: Purge, items: Sequence[SubmissionItem]) -> None:
    """Record the failures in the queue; what refuses one of them is added to its item's error."""
    causes = {item.id: item.error for item in items if item.error is not None}
    recorded = record_failures(purge.engine, causes)
    for item in items:
        item.retry = recorded.retries.get(item.id)
        if item.id in recorded.refused:
            item.error = f"{item.error}; the failure was not recorded: {recorded.refused[item.id]}"


def _sort(items: Sequence[SubmissionItem], deadline: datetime | None) -> Sorted:
    """Re-check claimed submissions by what was read after the claim."""
    parts = Sorted()
    for item in items:
        if item.purged:
            parts.skipped.append(item)
        elif item.active:
            parts.deferred.append(item)
        elif deadline is not None and not _deadline_passed(item, deadline):
            parts.skipped.append(item)
        else:
            parts.ready.append(item)
    return parts


def _queue_changes(parts: Sorted, deadline: datetime | None) -> Changes:
    if deadline is not None:
        return []
    return queue_changes(
        postponed=[item.id for item in parts.deferred], dropped=[item.id for item in parts.skipped]
    )


def _deadline_passed(item: SubmissionItem, as_of: datetime) -> bool:
    deadline = submission_deadline(item.policy, item.created, item.ended_at)
    return deadline is not None and deadline <= as_of
