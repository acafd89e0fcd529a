"""The rows of runs whose outputs are purged: which are read, which are changed (SPEC 5.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, func, null, select

from maintenance.continuations import present_in
from maintenance.report import NextAttempt
from maintenance.schema import (
    artifacts,
    attempts,
    callback_receipts,
    continuations,
    findings,
    input_traces,
    run_summaries,
    runs,
    step_runs,
)
from maintenance.schema.base import NEWEST, Version
from maintenance.storage.layout import Bundle
from tasks.batching.arrays import any_bigint, any_uuid
from tasks.batching.row_changes import Changes, RowDeletion, RowUpdate


@dataclass
class OutputItem:
    """One claimed run with everything that the purge of its outputs needs to know."""

    id: UUID
    org_id: int
    moment: datetime
    step_ids: list[int] = field(default_factory=list)
    artifact_ids: list[int] = field(default_factory=list)
    file_keys: list[str] = field(default_factory=list)
    """The files of its artifacts."""
    error: str | None = None
    """Why its outputs were not purged."""
    gone: str = ""
    """What of its files has been deleted, for the case that its row is refused then."""
    retry: NextAttempt | None = None
    """Its next attempt, if that is recorded."""

    @property
    def bundles(self) -> list[Bundle]:
        """Its bundle, which is deleted as a whole."""
        return [Bundle(self.org_id, self.id, frozenset())]


RUN_OUTPUTS: Mapping[str, Any] = {"error": "", "output_hash": ""}
"""What a run holds after the purge of its outputs."""

ATTEMPT_OUTPUTS: Mapping[str, Any] = {
    "execution_bundle_uri": "",
    "input_envelope_uri": "",
    "output_envelope_uri": "",
    "output_envelope_sha256": "",
    "last_error": "",
}
"""What an attempt holds after the purge of its run's outputs."""


def read_outputs(connection: Connection, items: Sequence[OutputItem]) -> None:
    """Fill in the steps and artifacts of claimed runs, in statements after the claim."""
    by_id = {item.id: item for item in items}
    for step_id, run_id in connection.execute(
        select(step_runs.c.id, step_runs.c.validation_run_id).where(
            step_runs.c.validation_run_id == any_uuid(list(by_id))
        )
    ):
        by_id[run_id].step_ids.append(step_id)
    for row in connection.execute(
        select(artifacts.c.id, artifacts.c.validation_run_id, artifacts.c.file).where(
            artifacts.c.validation_run_id == any_uuid(list(by_id))
        )
    ):
        item = by_id[row.validation_run_id]
        item.artifact_ids.append(row.id)
        if row.file:
            item.file_keys.append(row.file)


def _callback_changes(ids: ColumnElement[Any], version: Version) -> Changes:
    """Return what is cleared of callbacks; error texts exist since Validibot 0.16."""
    scope = callback_receipts.c.validation_run_id == ids
    if not present_in(version):
        return [RowUpdate(callback_receipts, scope, {"result_uri": ""})]
    return [
        RowUpdate(callback_receipts, scope, {"result_uri": "", "last_error": ""}),
        RowUpdate(continuations, continuations.c.validation_run_id == ids, {"last_error": ""}),
    ]


def output_changes(
    items: Sequence[OutputItem], *, redact_traces: bool, version: Version = NEWEST
) -> Changes:
    """Return the row changes that purge these runs' outputs, their bytes being gone.

    The run's row comes last; only its `modified` changes.
    """
    now = func.statement_timestamp()
    stamp = RowUpdate(
        runs,
        (runs.c.id == any_uuid([item.id for item in items])) & runs.c.output_purged_at.is_(None),
        stamps={
            **RUN_OUTPUTS,
            "output_purged_at": now,
            "output_expires_at": null(),
            "modified": now,
        },
    )
    return [*related_changes(items, redact_traces=redact_traces, version=version), stamp]


def related_changes(
    items: Sequence[OutputItem], *, redact_traces: bool, version: Version = NEWEST
) -> Changes:
    """Return the changes of the rows that belong to these runs.

    Artifacts are deleted by their own identifiers: one that was added after `read_outputs` stays,
    with its file.
    """
    ids = any_uuid([item.id for item in items])
    artifact_ids = any_bigint([one for item in items for one in item.artifact_ids])
    # Arrays of keys, not subqueries: the plan is an index scan even when statistics are stale.
    step_ids = any_bigint([one for item in items for one in item.step_ids])
    changes: Changes = [
        RowDeletion(findings, findings.c.validation_run_id == ids),
        RowDeletion(artifacts, artifacts.c.id == artifact_ids),
        RowUpdate(
            step_runs,
            step_runs.c.id == step_ids,
            {"output": {}, "input_values": {}, "output_values": {}, "error": ""},
        ),
        RowUpdate(attempts, attempts.c.step_run_id == step_ids, ATTEMPT_OUTPUTS),
        *_callback_changes(ids, version),
        RowUpdate(run_summaries, run_summaries.c.run_id == ids, {"extras": {}}),
    ]
    if redact_traces:
        scope = input_traces.c.step_run_id == step_ids
        changes.append(RowUpdate(input_traces, scope, {"value_snapshot": null()}))
    return changes
