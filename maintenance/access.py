"""What each job may read and write, column by column.

The one source for three things: the schema check at the start of a run (SPEC 2.11), the grants of
the database role in `docs/database-role.sql`, and a test that runs every job under that role. A
statement that uses more than is declared here fails there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Columns = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Access:
    """The columns that a job selects, updates and inserts, and the tables it deletes from.

    `ctid` is the row's place in the table; selecting it is a right of its own. A table that is
    only locked (FOR UPDATE) is among the updated ones.
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


NAMED_FILES: Columns = {
    "django_migrations": ("id", "app", "name", "applied"),
    "submissions_submission": ("input_file", "content_purged_at"),
    "submissions_submissioninputfile": ("input_file", "file_purged_at"),
    "validations_artifact": ("file",),
    "validations_runevidenceartifact": ("manifest_path", "availability"),
    "validations_executionattempt": (
        "step_run_id",
        "execution_bundle_uri",
        "input_envelope_uri",
        "output_envelope_uri",
    ),
    "validations_validationsteprun": ("id", "validation_run_id"),
    "validations_validationrun": ("id", "org_id", "status", "output_purged_at"),
}
"""What the storage is recognized by (SPEC 10.1): read by every job that deletes or saves files."""


def _with_named_files(columns: Columns) -> Columns:
    """Return columns that a job reads, and those that it recognizes the storage by."""
    return {
        table: tuple(dict.fromkeys((*columns.get(table, ()), *NAMED_FILES.get(table, ()))))
        for table in {**columns, **NAMED_FILES}
    }


PURGE_QUEUE_COLUMNS = (
    "submission_id",
    "created_at",
    "last_attempt_at",
    "next_retry_at",
    "attempt_count",
    "last_error",
)

PURGE_SUBMISSIONS = Access(
    select=_with_named_files(
        {
            "submissions_submission": (
                "ctid",
                "id",
                "created",
                "input_file",
                "retention_policy",
                "expires_at",
                "content_purged_at",
            ),
            "submissions_submissioninputfile": (
                "id",
                "submission_id",
                "input_file",
                "file_purged_at",
            ),
            "submissions_purgeretry": PURGE_QUEUE_COLUMNS,
            "validations_validationrun": (
                "id",
                "submission_id",
                "org_id",
                "status",
                "ended_at",
                "short_description",
            ),
            "validations_validationsteprun": ("id", "validation_run_id", "input_values"),
            "validations_executionattempt": (
                "id",
                "step_run_id",
                "execution_bundle_uri",
                "input_envelope_uri",
                "input_envelope_sha256",
                "input_evidence_snapshot",
                "output_envelope_uri",
            ),
            "validations_artifact": ("validation_run_id", "storage_uri", "manifest_uri"),
            "validations_resolvedinputtrace": ("step_run_id", "value_snapshot"),
        }
    ),
    update={
        "submissions_submission": (
            *("modified", "name", "content", "input_file", "original_filename", "metadata"),
            *("retention_policy", "expires_at", "content_purged_at"),
        ),
        "submissions_submissioninputfile": (
            "modified",
            "input_file",
            "original_filename",
            "content_type",
            "file_purged_at",
            "metadata",
        ),
        "submissions_purgeretry": (
            "last_attempt_at",
            "next_retry_at",
            "attempt_count",
            "last_error",
        ),
        "validations_validationrun": ("short_description",),
        "validations_validationsteprun": ("input_values",),
        "validations_executionattempt": (
            "execution_bundle_uri",
            "input_envelope_uri",
            "input_envelope_sha256",
            "input_evidence_snapshot",
        ),
        "validations_resolvedinputtrace": ("value_snapshot",),
    },
    insert={"submissions_purgeretry": PURGE_QUEUE_COLUMNS},
    delete=("submissions_purgeretry",),
)

SUBMISSION_DEADLINES = ("id", "created", "retention_policy", "expires_at", "content_purged_at")

PURGE_OUTPUTS = Access(
    select=_with_named_files(
        {
            "validations_validationrun": (
                *("ctid", "id", "status", "started_at", "ended_at", "org_id", "submission_id"),
                *("output_retention_policy", "output_expires_at", "output_purged_at"),
            ),
            "validations_artifact": ("id", "validation_run_id", "file"),
            "validations_validationfinding": ("validation_run_id",),
            "validations_validationsteprun": (
                "id",
                "validation_run_id",
                "output",
                "input_values",
                "output_values",
                "error",
            ),
            "validations_executionattempt": (
                "step_run_id",
                "execution_bundle_uri",
                "input_envelope_uri",
                "output_envelope_uri",
                "output_envelope_sha256",
                "last_error",
            ),
            "validations_callbackreceipt": ("validation_run_id", "result_uri"),
            "validations_validationrunsummary": ("run_id", "extras"),
            "validations_resolvedinputtrace": ("step_run_id", "value_snapshot"),
            "submissions_submission": SUBMISSION_DEADLINES,
            "submissions_purgeretry": PURGE_QUEUE_COLUMNS,
        }
    ),
    update={
        "validations_validationrun": (
            "modified",
            "ended_at",
            "error",
            "output_hash",
            "output_retention_policy",
            "output_expires_at",
            "output_purged_at",
        ),
        "validations_validationsteprun": ("output", "input_values", "output_values", "error"),
        "validations_executionattempt": (
            "execution_bundle_uri",
            "input_envelope_uri",
            "output_envelope_uri",
            "output_envelope_sha256",
            "last_error",
        ),
        "validations_callbackreceipt": ("result_uri",),
        "validations_validationrunsummary": ("extras",),
        "validations_resolvedinputtrace": ("value_snapshot",),
        "submissions_submission": ("retention_policy", "expires_at"),
        "submissions_purgeretry": ("next_retry_at",),
    },
    insert={"submissions_purgeretry": PURGE_QUEUE_COLUMNS},
    delete=("validations_artifact", "validations_validationfinding"),
)

CLEAR_SESSIONS = Access(
    select={"django_session": ("ctid", "expire_date")},
    update={"django_session": ("expire_date",)},
    delete=("django_session",),
)

CLEANUP_IDEMPOTENCY_KEYS = Access(
    select={"core_idempotencykey": ("ctid", "expires_at")},
    update={"core_idempotencykey": ("expires_at",)},
    delete=("core_idempotencykey",),
)

CLEANUP_CALLBACK_RECEIPTS = Access(
    select={
        "validations_callbackreceipt": ("ctid", "received_at", "validation_run_id"),
        "validations_validationrun": ("id", "status"),
    },
    update={"validations_callbackreceipt": ("received_at",)},
    delete=("validations_callbackreceipt",),
)

EVIDENCE_CONTENT = (
    *("modified", "schema_version", "manifest_path", "manifest_hash"),
    *("availability", "generation_error"),
)
RUN_FINISH = (
    *("ended_at", "output_hash", "output_expires_at", "output_retention_policy"),
    "definition_released_at",
)
ATTEMPT_END = ("modified", "state", "terminal_at", "last_error_code", "last_error")

CLEANUP_STUCK_RUNS = Access(
    select=_with_named_files(
        {
            "validations_validationrun": (
                *("id", "created", "modified", "org_id", "submission_id", "user_id", "workflow_id"),
                *("status", "started_at", "duration_ms", "error", "error_category"),
                "output_purged_at",
                *RUN_FINISH,
            ),
            "validations_validationrunsummary": (
                *("run_id", "error_count", "warning_count", "info_count", "total_findings"),
            ),
            "validations_validationsteprun": (
                *("id", "validation_run_id", "workflow_step_id", "step_order", "status", "error"),
                *("input_values", "output_values", "validator_backend_image_digest"),
            ),
            "validations_executionattempt": (
                *("id", "step_run_id", "attempt_number", "created", "timeout_at"),
                *("provider_execution_id", "state", "terminal_at", "last_error_code"),
            ),
            "validations_runevidenceartifact": (*("run_id", *EVIDENCE_CONTENT),),
            "validations_validator": ("id", "slug", "version"),
            "workflows_workflow": ("id", "slug", "version"),
            "workflows_workflowstep": ("id", "workflow_id", "validator_id", "order", "step_key"),
            "submissions_submission": (*SUBMISSION_DEADLINES, "name", "checksum_sha256"),
            "submissions_purgeretry": PURGE_QUEUE_COLUMNS,
        }
    ),
    update={
        "validations_validationrun": (
            *("modified", "status", "error", "error_category", "duration_ms"),
            *RUN_FINISH,
        ),
        "validations_executionattempt": ATTEMPT_END,
        "validations_runevidenceartifact": EVIDENCE_CONTENT,
        "submissions_submission": ("retention_policy", "expires_at"),
        "submissions_purgeretry": ("next_retry_at",),
    },
    insert={
        "validations_runevidenceartifact": ("id", "created", "run_id", *EVIDENCE_CONTENT),
        "submissions_purgeretry": PURGE_QUEUE_COLUMNS,
    },
)

CLEANUP_ORPHANED_CONTAINERS = Access(
    select={"validations_validationrun": ("id", "status", "ended_at")},
)

ACCESS: Mapping[str, Access] = {
    "purge-expired-submissions": PURGE_SUBMISSIONS,
    "purge-expired-outputs": PURGE_OUTPUTS,
    "process-purge-retries": PURGE_SUBMISSIONS,
    "cleanup-stuck-runs": CLEANUP_STUCK_RUNS,
    "cleanup-orphaned-containers": CLEANUP_ORPHANED_CONTAINERS,
    "cleanup-idempotency-keys": CLEANUP_IDEMPOTENCY_KEYS,
    "cleanup-callback-receipts": CLEANUP_CALLBACK_RECEIPTS,
    "clear-sessions": CLEAR_SESSIONS,
}
