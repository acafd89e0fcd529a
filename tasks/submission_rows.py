"""The rows of submissions that are purged: what is read, what is changed (SPEC 5.1)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, func, null, select

from maintenance.schema import (
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
from tasks.arrays import any_bigint, any_uuid
from tasks.changes import Change, Removal


@dataclass
class SubmissionItem:
    """One claimed submission with everything that its purge needs to know."""

    id: UUID
    moment: datetime
    """What orders the selection: its recorded deadline, or when its retry is due."""
    created: datetime
    policy: str
    input_file: str | None
    purged: bool = False
    active: bool = False
    ended_at: datetime | None = None
    bundles: list[Bundle] = field(default_factory=list)
    port_ids: list[int] = field(default_factory=list)
    port_keys: list[str] = field(default_factory=list)

    @property
    def file_keys(self) -> list[str]:
        """The keys of its uploaded file and of its port files."""
        return [key for key in (self.input_file, *self.port_keys) if key]


def read_related(connection: Connection, items: Sequence[SubmissionItem]) -> None:
    """Fill in the runs, attempts and port files of claimed submissions.

    Statements of their own, after the claim: they see every run that was committed before the
    claim was taken, and none can be committed while it is held.
    """
    by_id = {item.id: item for item in items}
    ids = any_uuid(list(by_id))
    attempt_ids: dict[UUID, set[str]] = defaultdict(set)
    for run_id, attempt_id in connection.execute(
        select(step_runs.c.validation_run_id, attempts.c.id)
        .join(attempts, attempts.c.step_run_id == step_runs.c.id)
        .join(runs, runs.c.id == step_runs.c.validation_run_id)
        .where(runs.c.submission_id == ids)
    ):
        attempt_ids[run_id].add(str(attempt_id))
    for run in connection.execute(
        select(
            runs.c.id, runs.c.submission_id, runs.c.org_id, runs.c.status, runs.c.ended_at
        ).where(runs.c.submission_id == ids)
    ):
        item = by_id[run.submission_id]
        item.active = item.active or run.status not in TERMINAL_RUN_STATUSES
        item.ended_at = max(filter(None, (item.ended_at, run.ended_at)), default=None)
        item.bundles.append(Bundle(run.org_id, run.id, frozenset(attempt_ids[run.id])))
    for port in connection.execute(
        select(input_files.c.id, input_files.c.submission_id, input_files.c.input_file).where(
            input_files.c.submission_id == ids, input_files.c.file_purged_at.is_(None)
        )
    ):
        item = by_id[port.submission_id]
        item.port_ids.append(port.id)
        if port.input_file:
            item.port_keys.append(port.input_file)


def purge_changes(
    items: Sequence[SubmissionItem], *, redact_traces: bool
) -> list[Change | Removal]:
    """Return the row changes that purge these submissions, their bytes being gone.

    The submission's row comes last: while it holds the claim, nothing of it is half done for
    anybody else. `modified` moves only on the submission and its port files.
    """
    ids = any_uuid([item.id for item in items])
    run_ids = any_uuid([bundle.run_id for item in items for bundle in item.bundles])
    port_ids = any_bigint([port for item in items for port in item.port_ids])
    now = func.statement_timestamp()
    of_runs = step_runs.c.validation_run_id == run_ids
    step_ids = select(step_runs.c.id).where(of_runs)
    changes: list[Change | Removal] = [
        Change(runs, runs.c.id == run_ids, {"short_description": ""}),
        Change(step_runs, of_runs, {"input_values": {}}),
        Change(
            attempts,
            attempts.c.step_run_id.in_(step_ids),
            {
                "execution_bundle_uri": "",
                "input_envelope_uri": "",
                "input_envelope_sha256": "",
                "input_evidence_snapshot": {},
            },
        ),
    ]
    if redact_traces:
        scope: ColumnElement[bool] = input_traces.c.step_run_id.in_(step_ids)
        changes.append(Change(input_traces, scope, {"value_snapshot": null()}))
    changes += [
        Change(
            input_files,
            (input_files.c.id == port_ids) & input_files.c.file_purged_at.is_(None),
            stamps={
                "input_file": "",
                "original_filename": "",
                "content_type": "",
                "metadata": {},
                "file_purged_at": now,
                "modified": now,
            },
        ),
        Removal(purge_retries, purge_retries.c.submission_id == ids),
        Change(
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
    return changes
