"""The rows of submissions that are purged: which are read, which are changed (SPEC 5.1)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, func, null, select

from maintenance.report import NextAttempt
from maintenance.schema import (
    artifacts,
    attempts,
    input_files,
    input_traces,
    purge_retries,
    runs,
    step_runs,
    submissions,
)
from maintenance.schema.vocabulary import TERMINAL_RUN_STATUSES
from maintenance.storage.layout import Bundle
from tasks.batching.arrays import any_bigint, any_uuid
from tasks.batching.row_changes import Changes, RowDeletion, RowUpdate

RUN_INPUTS: Mapping[str, Any] = {"short_description": ""}
STEP_INPUTS: Mapping[str, Any] = {"input_values": {}}
ATTEMPT_INPUTS: Mapping[str, Any] = {
    "execution_bundle_uri": "",
    "input_envelope_uri": "",
    "input_envelope_sha256": "",
    "input_evidence_snapshot": {},
}
PORT_FILE: Mapping[str, Any] = {
    "input_file": "",
    "original_filename": "",
    "content_type": "",
    "metadata": {},
}
"""What runs, steps, attempts and port files hold after the purge of their submission."""


@dataclass
class SubmissionItem:
    """One claimed submission with everything that its purge needs to know."""

    id: UUID
    moment: datetime
    """Orders the selection: its recorded deadline, or when its retry is due."""
    created: datetime
    policy: str
    input_file: str | None
    purged: bool = False
    active: bool = False
    error: str | None = None
    """Why it was not purged."""
    gone: str = ""
    """What of its files has been deleted, for the case that its row is refused then."""
    retry: NextAttempt | None = None
    """Its next attempt, if that is recorded."""
    ended_at: datetime | None = None
    bundles: list[Bundle] = field(default_factory=list)
    step_ids: set[int] = field(default_factory=set)
    port_ids: list[int] = field(default_factory=list)
    file_keys: list[str] = field(default_factory=list)
    """The files of its ports."""

    @property
    def own_key(self) -> str | None:
        """Its uploaded file."""
        return self.input_file


def read_related(
    connection: Connection, items: Sequence[SubmissionItem], *, with_uris: bool = True
) -> None:
    """Fill in the runs, attempts and port files of claimed submissions.

    These are statements after the claim: they see every run that was committed before the claim
    was taken, and no run can be committed while it is held.

    Args:
        connection: the transaction that holds the claim.
        items: the submissions.
        with_uris: read the addresses of the runs' outputs too. Needed for buckets, where files at
            these addresses are kept; local files have no such addresses.
    """
    by_id = {item.id: item for item in items}
    ids = any_uuid(list(by_id))
    found = connection.execute(
        select(
            runs.c.id, runs.c.submission_id, runs.c.org_id, runs.c.status, runs.c.ended_at
        ).where(runs.c.submission_id == ids)
    ).all()
    by_run = {run.id: by_id[run.submission_id] for run in found}
    attempt_ids = _read_steps(connection, by_run)
    kept_uris = output_uris(connection, list(by_run)) if with_uris else {}
    for run in found:
        item = by_run[run.id]
        item.active = item.active or run.status not in TERMINAL_RUN_STATUSES
        item.ended_at = max(filter(None, (item.ended_at, run.ended_at)), default=None)
        uris = frozenset(kept_uris.get(run.id, ()))
        item.bundles.append(Bundle(run.org_id, run.id, frozenset(attempt_ids[run.id]), uris))
    for port in connection.execute(
        select(input_files.c.id, input_files.c.submission_id, input_files.c.input_file).where(
            input_files.c.submission_id == ids, input_files.c.file_purged_at.is_(None)
        )
    ):
        item = by_id[port.submission_id]
        item.port_ids.append(port.id)
        if port.input_file:
            item.file_keys.append(port.input_file)


def _read_steps(
    connection: Connection, by_run: Mapping[UUID, SubmissionItem]
) -> dict[UUID, set[str]]:
    """Fill in the steps of the runs, and return the attempts of each run."""
    attempt_ids: dict[UUID, set[str]] = defaultdict(set)
    for step_id, run_id, attempt_id in connection.execute(
        select(step_runs.c.id, step_runs.c.validation_run_id, attempts.c.id)
        .outerjoin(attempts, attempts.c.step_run_id == step_runs.c.id)
        .where(step_runs.c.validation_run_id == any_uuid(list(by_run)))
    ):
        by_run[run_id].step_ids.add(step_id)
        if attempt_id is not None:
            attempt_ids[run_id].add(str(attempt_id))
    return attempt_ids


def output_uris(connection: Connection, run_ids: Sequence[UUID]) -> dict[UUID, set[str]]:
    """Return the addresses that rows of the runs give for their outputs, by run."""
    ids = any_uuid(run_ids)
    envelopes = (
        select(step_runs.c.validation_run_id, attempts.c.output_envelope_uri)
        .join(attempts, attempts.c.step_run_id == step_runs.c.id)
        .where(step_runs.c.validation_run_id == ids)
    )
    of_artifacts = (
        select(artifacts.c.validation_run_id, uri).where(artifacts.c.validation_run_id == ids)
        for uri in (artifacts.c.storage_uri, artifacts.c.manifest_uri)
    )
    found: dict[UUID, set[str]] = defaultdict(set)
    for query in (envelopes, *of_artifacts):
        for run_id, uri in connection.execute(query):
            found[run_id].add(uri)
    return found


def input_changes(
    run_ids: ColumnElement[Any], step_ids: ColumnElement[Any], *, redact_traces: bool
) -> Changes:
    """Return the changes that clear the inputs which rows of runs and steps repeat.

    Args:
        run_ids: an array of runs.
        step_ids: an array of step runs.
        redact_traces: whether the values of input traces go, too.
    """
    changes: Changes = [
        RowUpdate(runs, runs.c.id == run_ids, RUN_INPUTS),
        RowUpdate(step_runs, step_runs.c.id == step_ids, STEP_INPUTS),
        RowUpdate(attempts, attempts.c.step_run_id == step_ids, ATTEMPT_INPUTS),
    ]
    if redact_traces:
        scope: ColumnElement[bool] = input_traces.c.step_run_id == step_ids
        changes.append(RowUpdate(input_traces, scope, {"value_snapshot": null()}))
    return changes


def port_stamp(port_ids: ColumnElement[Any]) -> RowUpdate:
    """Return the change that stamps port files whose bytes are gone, unless they are stamped."""
    now = func.statement_timestamp()
    return RowUpdate(
        input_files,
        (input_files.c.id == port_ids) & input_files.c.file_purged_at.is_(None),
        stamps={**PORT_FILE, "file_purged_at": now, "modified": now},
    )


def purge_changes(items: Sequence[SubmissionItem], *, redact_traces: bool) -> Changes:
    """Return the row changes that purge these submissions, their bytes being gone.

    The submission's row comes last. `modified` changes only on the submission and its port
    files.
    """
    ids = any_uuid([item.id for item in items])
    run_ids = any_uuid([bundle.run_id for item in items for bundle in item.bundles])
    port_ids = any_bigint([port for item in items for port in item.port_ids])
    now = func.statement_timestamp()
    # Arrays of keys, not subqueries: the plan is an index scan even when statistics are stale.
    step_ids = any_bigint([step for item in items for step in item.step_ids])
    return [
        *input_changes(run_ids, step_ids, redact_traces=redact_traces),
        port_stamp(port_ids),
        RowDeletion(purge_retries, purge_retries.c.submission_id == ids),
        RowUpdate(
            submissions,
            (submissions.c.id == ids) & submissions.c.content_purged_at.is_(None),
            stamps={
                "name": "",
                "content": "",
                "input_file": "",
                "original_filename": "",
                "metadata": {},
                "content_purged_at": now,
                "expires_at": null(),
                "modified": now,
            },
        ),
    ]
