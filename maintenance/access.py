"""What each job may read and write, column by column.

The one source for three things: the schema check at the start of a run (SPEC 2.11), the grants of
the database role in `docs/database-role.sql`, and a test that runs every job under that role. A
statement that uses a column not declared here fails there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from maintenance.schema.base import Version
from maintenance.schema.versions import exists_in

Columns = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Access:
    """The columns that a job selects, updates and inserts, and the tables it deletes from.

    `ctid`, a row's physical location, needs a SELECT grant of its own: only deletes by age read
    it. A table that is only locked (FOR UPDATE) is among the updated ones, because PostgreSQL
    requires UPDATE on it.
    """

    select: Columns
    update: Columns = field(default_factory=dict)
    insert: Columns = field(default_factory=dict)
    delete: tuple[str, ...] = ()

    def columns(self) -> dict[str, set[str]]:
        """Return every column that is used, by table, without system columns."""
        used: dict[str, set[str]] = {table: set() for table in self.delete}
        for part in (self.select, self.update, self.insert):
            for table, names in part.items():
                used.setdefault(table, set()).update(names)
        return {table: names - {"ctid"} for table, names in used.items()}

    def in_version(self, version: Version) -> "Access":
        """Return what a job uses of the tables and columns that a version of Validibot has."""

        def present(part: Columns) -> Columns:
            return {
                table: tuple(name for name in names if exists_in(version, table, name))
                for table, names in part.items()
                if exists_in(version, table)
            }

        return Access(
            present(self.select),
            present(self.update),
            present(self.insert),
            tuple(table for table in self.delete if exists_in(version, table)),
        )


def columns(names: str, *more: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in a text as a tuple, followed by those of other tuples."""
    return (*names.split(), *(name for part in more for name in part))


PURGE_RETRY = columns(
    "submission_id created_at last_attempt_at next_retry_at attempt_count last_error"
)
SUBMISSION_DEADLINE = columns("id created retention_policy expires_at content_purged_at")

PURGE_SUBMISSIONS = Access(
    select={
        "submissions_submission": columns("input_file", SUBMISSION_DEADLINE),
        "submissions_submissioninputfile": columns("id submission_id input_file file_purged_at"),
        "submissions_purgeretry": PURGE_RETRY,
        "validations_validationrun": columns(
            "id submission_id org_id status ended_at short_description"
        ),
        "validations_validationsteprun": columns("id validation_run_id input_values"),
        "validations_executionattempt": columns(
            "id step_run_id execution_bundle_uri input_envelope_uri input_envelope_sha256"
            " input_evidence_snapshot output_envelope_uri"
        ),
        "validations_artifact": columns("validation_run_id storage_uri manifest_uri"),
        "validations_resolvedinputtrace": columns("step_run_id value_snapshot"),
    },
    update={
        "submissions_submission": columns(
            "modified name content input_file original_filename metadata retention_policy"
            " expires_at content_purged_at"
        ),
        "submissions_submissioninputfile": columns(
            "modified input_file original_filename content_type file_purged_at metadata"
        ),
        "submissions_purgeretry": columns("last_attempt_at next_retry_at attempt_count last_error"),
        "validations_validationrun": columns("short_description"),
        "validations_validationsteprun": columns("input_values"),
        "validations_executionattempt": columns(
            "execution_bundle_uri input_envelope_uri input_envelope_sha256 input_evidence_snapshot"
        ),
        "validations_resolvedinputtrace": columns("value_snapshot"),
    },
    insert={"submissions_purgeretry": PURGE_RETRY},
    delete=("submissions_purgeretry",),
)

STEP_OUTPUT = columns("output input_values output_values error")
ATTEMPT_OUTPUT = columns(
    "execution_bundle_uri input_envelope_uri output_envelope_uri output_envelope_sha256 last_error"
)

PURGE_OUTPUTS = Access(
    select={
        "validations_validationrun": columns(
            "id status started_at ended_at org_id submission_id output_retention_policy"
            " output_expires_at output_purged_at"
        ),
        "validations_artifact": columns("id validation_run_id file"),
        "validations_validationfinding": columns("validation_run_id"),
        "validations_validationsteprun": columns("id validation_run_id", STEP_OUTPUT),
        "validations_executionattempt": columns("step_run_id", ATTEMPT_OUTPUT),
        "validations_callbackreceipt": columns("validation_run_id result_uri last_error"),
        "validations_validationruncontinuation": columns("validation_run_id last_error"),
        "validations_validationrunsummary": columns("run_id extras"),
        "validations_resolvedinputtrace": columns("step_run_id value_snapshot"),
        "submissions_submission": SUBMISSION_DEADLINE,
        "submissions_purgeretry": PURGE_RETRY,
    },
    update={
        "validations_validationrun": columns(
            "modified ended_at error output_hash output_retention_policy output_expires_at"
            " output_purged_at"
        ),
        "validations_validationsteprun": STEP_OUTPUT,
        "validations_executionattempt": ATTEMPT_OUTPUT,
        "validations_callbackreceipt": columns("result_uri last_error"),
        "validations_validationruncontinuation": columns("last_error"),
        "validations_validationrunsummary": columns("extras"),
        "validations_resolvedinputtrace": columns("value_snapshot"),
        "submissions_submission": columns("retention_policy expires_at"),
        "submissions_purgeretry": columns("next_retry_at"),
    },
    insert={"submissions_purgeretry": PURGE_RETRY},
    delete=("validations_artifact", "validations_validationfinding"),
)

CLEAR_SESSIONS = Access(
    select={"django_session": columns("ctid expire_date")},
    update={"django_session": columns("expire_date")},
    delete=("django_session",),
)

CLEANUP_IDEMPOTENCY_KEYS = Access(
    select={"core_idempotencykey": columns("ctid expires_at")},
    update={"core_idempotencykey": columns("expires_at")},
    delete=("core_idempotencykey",),
)

CLEANUP_CALLBACK_RECEIPTS = Access(
    select={
        "validations_callbackreceipt": columns("ctid id received_at validation_run_id"),
        "validations_validationrun": columns("id status"),
        "validations_validationruncontinuation": columns("id callback_receipt_id"),
    },
    update={
        "validations_callbackreceipt": columns("received_at"),
        "validations_validationruncontinuation": columns("callback_receipt_id"),
    },
    delete=("validations_callbackreceipt",),
)

EVIDENCE = columns(
    "modified schema_version manifest_path manifest_hash availability generation_error"
)
RUN_FINALIZATION = columns(
    "ended_at output_hash output_expires_at output_retention_policy definition_released_at"
)

CLEANUP_STUCK_RUNS = Access(
    select={
        "validations_validationrun": columns(
            "id created modified org_id submission_id user_id workflow_id status started_at"
            " duration_ms error error_category output_purged_at",
            RUN_FINALIZATION,
        ),
        "validations_validationrunsummary": columns(
            "run_id error_count warning_count info_count total_findings"
        ),
        "validations_validationsteprun": columns(
            "id validation_run_id workflow_step_id step_order status error input_values"
            " output_values validator_backend_image_digest"
        ),
        "validations_executionattempt": columns(
            "id step_run_id attempt_number created timeout_at provider_execution_id state"
            " terminal_at last_error_code"
        ),
        "validations_runevidenceartifact": columns("run_id", EVIDENCE),
        "validations_validationruncontinuation": columns("validation_run_id state created"),
        "validations_validator": columns("id slug version"),
        "workflows_workflow": columns("id slug version"),
        "workflows_workflowstep": columns("id workflow_id validator_id order step_key"),
        "submissions_submission": columns("name checksum_sha256", SUBMISSION_DEADLINE),
        "submissions_purgeretry": PURGE_RETRY,
    },
    update={
        "validations_validationrun": columns(
            "modified status error error_category duration_ms", RUN_FINALIZATION
        ),
        "validations_executionattempt": columns(
            "modified state terminal_at last_error_code last_error"
        ),
        "validations_runevidenceartifact": EVIDENCE,
        "submissions_submission": columns("retention_policy expires_at"),
        "submissions_purgeretry": columns("next_retry_at"),
    },
    insert={
        "validations_runevidenceartifact": columns("id created run_id", EVIDENCE),
        "submissions_purgeretry": PURGE_RETRY,
    },
)

CLEANUP_ORPHANED_CONTAINERS = Access(
    select={"validations_validationrun": columns("id status ended_at")},
)

NAMED_FILES: Columns = {
    "django_migrations": columns("id app name applied"),
    "submissions_submission": columns("input_file content_purged_at"),
    "submissions_submissioninputfile": columns("input_file file_purged_at"),
    "validations_artifact": columns("file"),
    "validations_runevidenceartifact": columns("manifest_path availability"),
    "validations_executionattempt": columns(
        "step_run_id execution_bundle_uri input_envelope_uri output_envelope_uri"
    ),
    "validations_validationsteprun": columns("id validation_run_id"),
    "validations_validationrun": columns("id org_id status output_purged_at"),
}
"""What the application and its storage are recognized by (SPEC 10.1)."""


def _union(first: Columns, second: Columns) -> Columns:
    """Return the columns of both."""
    return {
        table: tuple(dict.fromkeys(first.get(table, ()) + second.get(table, ())))
        for table in {**first, **second}
    }


def _residue(inputs: Access, outputs: Access) -> Access:
    """Return the access of the job that completes both purges; it computes no deadlines."""
    return Access(
        select=_union(
            _union(inputs.select, outputs.select),
            {"validations_validationrun": columns("error output_hash")},
        ),
        update=_union(inputs.update, outputs.update),
        delete=(*inputs.delete, *outputs.delete),
    )


def _with_storage(access: Access) -> Access:
    """Return the access of a job that deletes or saves files."""
    return replace(access, select=_union(access.select, NAMED_FILES))


ACCESS: Mapping[str, Access] = {
    "purge-expired-submissions": _with_storage(PURGE_SUBMISSIONS),
    "purge-expired-outputs": _with_storage(PURGE_OUTPUTS),
    "process-purge-retries": _with_storage(PURGE_SUBMISSIONS),
    "cleanup-stuck-runs": _with_storage(CLEANUP_STUCK_RUNS),
    "cleanup-orphaned-containers": CLEANUP_ORPHANED_CONTAINERS,
    "cleanup-idempotency-keys": CLEANUP_IDEMPOTENCY_KEYS,
    "cleanup-callback-receipts": CLEANUP_CALLBACK_RECEIPTS,
    "clear-sessions": CLEAR_SESSIONS,
    "reclaim-residue": _with_storage(_residue(PURGE_SUBMISSIONS, PURGE_OUTPUTS)),
}
