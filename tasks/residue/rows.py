"""The tasks of reclaim-residue that clear what stamped rows still hold (SPEC 10.12).

In a first, READ ONLY transaction the rows of a portion are found that still hold something; only
these are claimed. The claim is followed by a look in new statements, as in every purge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

from prefect import task
from sqlalchemy import ColumnElement, Connection, Row, Select, select

from maintenance.budget import SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import transaction
from maintenance.report import BatchResult
from maintenance.schema import runs, submissions
from tasks.batching.arrays import any_uuid
from tasks.batching.bisection import Steps, bisect, blame, left, left_untried
from tasks.batching.claims import BatchSteps, Item, preview_claim, work_claim
from tasks.batching.slices import Slice, work_slice
from tasks.purge.options import Purge, open_purge, page_sizer
from tasks.residue.options import ROWS_OF_RUNS, ROWS_OF_SUBMISSIONS, ResidueOptions, of_kind
from tasks.residue.run_rows import RunItem, clear_runs, find_runs, preview_runs, stamped_runs
from tasks.residue.stamped_rows import StampedCursor, by_stamped
from tasks.residue.submission_rows import (
    clear_submissions,
    find_submissions,
    preview_submissions,
    read_submission,
    stamped_submissions,
)
from tasks.retrying import TASK_OPTIONS

T = TypeVar("T", bound=Item)


@dataclass(frozen=True)
class StampedRows(Generic[T]):
    """A kind of stamped rows.

    Attributes:
        kind: what the report calls their residue.
        stamped: which rows are stamped; without a column that has an index, by which the whole
            table would be read.
        columns: what is read of a row.
        find: returns which of the rows with these identifiers still hold something.
        steps: how claimed rows are cleared.
    """

    kind: str
    stamped: ColumnElement[bool]
    columns: Select[Any]
    find: Callable[[Connection, Sequence[UUID]], list[UUID]]
    steps: BatchSteps[T]


@task(name="reclaim rows of runs", **TASK_OPTIONS)
def reclaim_run_rows(
    cutoff: Cutoff, cursor: StampedCursor | None, share: SliceBudget, options: ResidueOptions
) -> Slice[StampedCursor]:
    """Clear the rows of purged runs, with the files of their artifacts; in a dry run count them.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: the storage as a whole cannot be used, or is not the application's.
    """
    return _reclaim(_runs, cutoff, cursor, share, options)


@task(name="reclaim rows of submissions", **TASK_OPTIONS)
def reclaim_submission_rows(
    cutoff: Cutoff, cursor: StampedCursor | None, share: SliceBudget, options: ResidueOptions
) -> Slice[StampedCursor]:
    """Clear the rows of purged submissions, with the files that they name; in a dry run count them.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: the storage as a whole cannot be used, or is not the application's.
    """
    return _reclaim(_submissions, cutoff, cursor, share, options)


def _runs(purge: Purge, as_of: datetime) -> StampedRows[RunItem]:
    def read(row: Row[*tuple[Any, ...]]) -> RunItem:
        return RunItem(row.id, row.org_id, as_of)

    return StampedRows(
        ROWS_OF_RUNS,
        runs.c.output_purged_at <= as_of,
        select(runs.c.id, runs.c.org_id).where(stamped_runs(as_of)),
        partial(find_runs, as_of=as_of, redact_traces=purge.redact_traces),
        BatchSteps(
            kind="run",
            key=runs.c.id,
            read=read,
            act=partial(clear_runs, purge),
            preview=partial(preview_runs, purge),
        ),
    )


def _submissions(purge: Purge, as_of: datetime) -> StampedRows[Any]:
    columns = submissions.c
    return StampedRows(
        ROWS_OF_SUBMISSIONS,
        stamped_submissions(as_of),
        select(columns.id, columns.created, columns.retention_policy, columns.input_file),
        partial(find_submissions, as_of=as_of, redact_traces=purge.redact_traces),
        BatchSteps(
            kind="submission",
            key=columns.id,
            read=partial(read_submission, as_of=as_of),
            act=partial(clear_submissions, purge, as_of=as_of),
            preview=partial(preview_submissions, purge, as_of=as_of),
        ),
    )


def _reclaim(
    rows_of: Callable[[Purge, datetime], StampedRows[T]],
    cutoff: Cutoff,
    cursor: StampedCursor | None,
    share: SliceBudget,
    options: ResidueOptions,
) -> Slice[StampedCursor]:
    with open_purge(options, dry_run=options.dry_run) as purge:
        rows = rows_of(purge, cutoff.as_of)
        act = partial(_act, purge, rows, dry_run=options.dry_run)
        one_batch = by_stamped(purge.engine, rows.steps.key, rows.stamped, act)
        return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


def _act(purge: Purge, rows: StampedRows[T], ids: Sequence[UUID], *, dry_run: bool) -> BatchResult:
    """Find which of these rows still hold something, and clear or count them."""
    found: list[UUID] = []
    steps = rows.steps

    def look(part: Sequence[UUID]) -> BatchResult:
        with transaction(purge.engine, read_only=True) as connection:
            found.extend(rows.find(connection, part))
        return BatchResult()

    result = bisect(ids, Steps(look, partial(blame, steps.kind), left_untried))
    if not found:
        return result
    claim = rows.columns.where(steps.key == any_uuid(found), rows.stamped).order_by(steps.key)
    if dry_run:
        _, done = preview_claim(purge.engine, steps, claim)
    else:
        items, done = work_claim(purge.engine, steps, claim.with_for_update(skip_locked=True))
        busy = set(found) - {item.id for item in items}
        result += left(busy)
    result += of_kind(rows.kind, done)
    return result
