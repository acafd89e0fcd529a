"""What the rows of purged submissions still hold, and our purge would have cleared (SPEC 5.1).

The columns that both purges clear, in rows of a run whose outputs were purged too, are those of the
run (`tasks/residue/run_rows.py`), so that nothing is counted twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Connection, Row, Table, func, select

from maintenance.report import BatchResult
from maintenance.schema import (
    attempts,
    input_files,
    input_traces,
    purge_retries,
    runs,
    step_runs,
    submissions,
)
from tasks.batching.arrays import any_bigint, any_uuid
from tasks.batching.row_changes import (
    Changes,
    RowDeletion,
    RowUpdate,
    apply_changes,
    count_changes,
)
from tasks.purge.files import (
    delete_named_files,
    delete_own_files,
    measure_named_files,
    measure_own_files,
)
from tasks.purge.options import Purge
from tasks.purge.output_rows import ATTEMPT_OUTPUTS
from tasks.purge.submission_rows import (
    ATTEMPT_INPUTS,
    PORT_FILE,
    SubmissionItem,
    input_changes,
    port_stamp,
    read_related,
)
from tasks.residue.run_rows import stamped_runs

ONLY_INPUTS = {name: new for name, new in ATTEMPT_INPUTS.items() if name not in ATTEMPT_OUTPUTS}
"""The columns of an attempt that a purge of outputs leaves."""


@dataclass
class PurgedSubmission(SubmissionItem):
    """A purged submission.

    Attributes:
        purged_steps: of its steps, those of runs whose outputs were purged, too.
        named_ids: port files that are stamped and still name a file.
    """

    purged_steps: set[int] = field(default_factory=set)
    named_ids: list[int] = field(default_factory=list)


def stamped_submissions(as_of: datetime) -> ColumnElement[bool]:
    """Return whether a submission's content was purged."""
    return submissions.c.content_purged_at <= as_of


def read_submission(row: Row[*tuple[Any, ...]], as_of: datetime) -> PurgedSubmission:
    """Return the item of a row with the columns id, created, retention_policy and input_file."""
    policy, key = row.retention_policy, row.input_file
    return PurgedSubmission(row.id, as_of, row.created, policy, key, purged=True)


def read_residue(
    connection: Connection, items: Sequence[PurgedSubmission], as_of: datetime
) -> None:
    """Fill in the runs, steps and port files, in statements of the present moment."""
    read_related(connection, items, with_uris=False)
    by_id = {item.id: item for item in items}
    by_step = {step: item for item in items for step in item.step_ids}
    run_ids = [bundle.run_id for item in items for bundle in item.bundles]
    for step in connection.execute(
        select(step_runs.c.id)
        .join(runs, runs.c.id == step_runs.c.validation_run_id)
        .where(runs.c.id == any_uuid(run_ids), stamped_runs(as_of))
    ).scalars():
        if step in by_step:
            by_step[step].purged_steps.add(step)
    for port in connection.execute(
        select(input_files.c.id, input_files.c.submission_id, input_files.c.input_file).where(
            input_files.c.submission_id == any_uuid(list(by_id)),
            input_files.c.file_purged_at.is_not(None),
            input_files.c.input_file != "",
        )
    ):
        by_id[port.submission_id].named_ids.append(port.id)
        by_id[port.submission_id].file_keys.append(port.input_file)


def find_submissions(
    connection: Connection, ids: Sequence[UUID], as_of: datetime, *, redact_traces: bool
) -> list[UUID]:
    """Return which of these submissions are purged, have no active run, and hold something."""
    scope = (submissions.c.id == any_uuid(ids)) & stamped_submissions(as_of)
    rows = connection.execute(
        select(
            submissions.c.id,
            submissions.c.created,
            submissions.c.retention_policy,
            submissions.c.input_file,
        ).where(scope)
    )
    items = [read_submission(row, as_of) for row in rows]
    read_residue(connection, items, as_of)
    quiet = [item for item in items if not item.active]
    found = {item.id for item in quiet if item.port_ids or item.named_ids or item.own_key}
    by_run = {bundle.run_id: item.id for item in quiet for bundle in item.bundles}
    by_step = {step: item.id for item in quiet for step in item.step_ids}
    keys: dict[Table, tuple[Column[Any], Mapping[Any, UUID]]] = {
        runs: (runs.c.id, by_run),
        step_runs: (step_runs.c.id, by_step),
        attempts: (attempts.c.step_run_id, by_step),
        input_traces: (input_traces.c.step_run_id, by_step),
        purge_retries: (purge_retries.c.submission_id, {item.id: item.id for item in quiet}),
    }
    for change in submission_changes(quiet, redact_traces=redact_traces):
        if change.table in keys:
            key, owner = keys[change.table]
            query = select(key).where(change.condition).distinct()
            found.update(owner[one] for one in connection.execute(query).scalars())
    return [item.id for item in quiet if item.id in found]


def submission_changes(items: Sequence[PurgedSubmission], *, redact_traces: bool) -> Changes:
    """Return the changes that clear what the rows hold, as a purge of ours does."""
    ids = any_uuid([item.id for item in items])
    run_ids = any_uuid([bundle.run_id for item in items for bundle in item.bundles])
    purged = any_bigint([step for item in items for step in item.purged_steps])
    others = any_bigint([step for item in items for step in item.step_ids - item.purged_steps])
    new_ports = any_bigint([port for item in items for port in item.port_ids])
    named_ports = any_bigint([port for item in items for port in item.named_ids])
    now = func.statement_timestamp()
    return [
        *input_changes(run_ids, others, redact_traces=redact_traces),
        RowUpdate(attempts, attempts.c.step_run_id == purged, ONLY_INPUTS),
        port_stamp(new_ports),
        RowUpdate(
            input_files,
            (input_files.c.id == named_ports) & (input_files.c.input_file != ""),
            stamps={**PORT_FILE, "modified": now},
        ),
        RowDeletion(purge_retries, purge_retries.c.submission_id == ids),
        RowUpdate(
            submissions,
            (submissions.c.id == ids) & (submissions.c.input_file != ""),
            stamps={"input_file": "", "modified": now},
        ),
    ]


def clear_submissions(
    purge: Purge, connection: Connection, items: Sequence[PurgedSubmission], as_of: datetime
) -> BatchResult:
    """Delete the files that claimed submissions name, then clear their rows.

    A submission that has an active run by now is deferred.
    """
    read_residue(connection, items, as_of)
    quiet = [item for item in items if not item.active]
    result = BatchResult(deferred=len(items) - len(quiet))
    permit = purge.permit(connection)
    delete_named_files(purge.stores, quiet, result, permit)
    free = [item for item in quiet if item.error is None]
    gone = delete_own_files(purge.stores, free, result, permit)
    if gone:
        changes = submission_changes(gone, redact_traces=purge.redact_traces)
        result.rows_by_table = apply_changes(connection, changes)
    result.done = len(gone)
    purge.stores.verify()
    return result


def preview_submissions(
    purge: Purge, connection: Connection, items: Sequence[PurgedSubmission], as_of: datetime
) -> BatchResult:
    """Return what `clear_submissions` would do."""
    read_residue(connection, items, as_of)
    quiet = [item for item in items if not item.active]
    result = BatchResult(deferred=len(items) - len(quiet))
    measure_named_files(purge.stores, quiet, result)
    measure_own_files(purge.stores, quiet, result)
    changes = submission_changes(quiet, redact_traces=purge.redact_traces)
    result.rows_by_table = count_changes(connection, changes)
    return result
