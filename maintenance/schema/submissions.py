"""Uploads: submissions, the files of their input ports, and the queue of purge retries."""

from sqlalchemy import CheckConstraint, Index, Table, UniqueConstraint

from maintenance.schema.base import (
    bigint,
    identity_key,
    integer,
    jsonb,
    long_text,
    metadata,
    moment,
    pattern_index,
    reference,
    uuid,
    varchar,
)

submissions = Table(
    "submissions_submission",
    metadata,
    moment("created"),
    moment("modified"),
    uuid("id", primary_key=True),
    varchar("name", 256),
    long_text("content"),
    varchar("input_file", 100, nullable=True),
    varchar("file_type", 64),
    varchar("original_filename", 512),
    bigint("size_bytes"),
    varchar("checksum_sha256", 64),
    jsonb("metadata"),
    varchar("retention_policy", 32),
    moment("expires_at", nullable=True),
    moment("content_purged_at", nullable=True),
    uuid("latest_run_id", nullable=True),
    bigint("org_id"),
    bigint("project_id", nullable=True),
    bigint("user_id", nullable=True),
    bigint("workflow_id"),
    CheckConstraint(
        "NOT (content > '' AND input_file IS NOT NULL AND NOT input_file = '')",
        name="submission_content_not_both",
    ),
    CheckConstraint(
        "content_purged_at IS NOT NULL OR content > '' OR"
        " (input_file IS NOT NULL AND NOT (input_file = '' AND input_file IS NOT NULL))",
        name="submission_content_present",
    ),
    CheckConstraint(
        "content_purged_at IS NULL OR (content = '' AND input_file = '')",
        name="submission_purged_content_cleared",
    ),
    UniqueConstraint("latest_run_id", name="submissions_submission_latest_run_id_key"),
    # Runs refer back to submissions, so this key is added after both tables exist.
    reference(
        "latest_run_id",
        "validations_validationrun.id",
        "submissions_submissi_latest_run_id_22cc623b_fk_validatio",
        use_alter=True,
    ),
    reference(
        "project_id", "projects_project.id", "submissions_submissi_project_id_3bf68a52_fk_projects_"
    ),
    reference(
        "workflow_id",
        "workflows_workflow.id",
        "submissions_submissi_workflow_id_224b55f6_fk_workflows",
    ),
    reference(
        "org_id",
        "users_organization.id",
        "submissions_submission_org_id_0b0d60bd_fk_users_organization_id",
    ),
    reference(
        "user_id", "users_user.id", "submissions_submission_user_id_f185a147_fk_users_user_id"
    ),
    Index("submissions_org_id_7cc029_idx", "org_id", "project_id", "workflow_id", "created"),
    Index("submissions_org_id_a2388d_idx", "org_id", "created"),
    Index("submissions_submission_expires_at_df040673", "expires_at"),
    Index("submissions_submission_org_id_0b0d60bd", "org_id"),
    Index("submissions_submission_project_id_3bf68a52", "project_id"),
    Index("submissions_submission_user_id_f185a147", "user_id"),
    Index("submissions_submission_workflow_id_224b55f6", "workflow_id"),
)

input_files = Table(
    "submissions_submissioninputfile",
    metadata,
    identity_key(),
    moment("created"),
    moment("modified"),
    varchar("port_key", 255),
    varchar("input_file", 100, nullable=True),
    varchar("original_filename", 512),
    varchar("content_type", 255),
    bigint("size_bytes"),
    varchar("checksum_sha256", 64),
    moment("file_purged_at", nullable=True),
    jsonb("metadata"),
    uuid("submission_id"),
    bigint("workflow_step_id", nullable=True),
    UniqueConstraint(
        "submission_id", "workflow_step_id", "port_key", name="uniq_submission_step_port_file"
    ),
    reference(
        "submission_id",
        "submissions_submission.id",
        "submissions_submissi_submission_id_9ddf30d0_fk_submissio",
    ),
    reference(
        "workflow_step_id",
        "workflows_workflowstep.id",
        "submissions_submissi_workflow_step_id_277d37a1_fk_workflows",
    ),
    Index("submissions_submiss_6ed746_idx", "submission_id", "workflow_step_id", "port_key"),
    Index("submissions_submissioninputfile_port_key_48ceba7e", "port_key"),
    pattern_index("submissions_submissioninputfile_port_key_48ceba7e_like", "port_key"),
    Index("submissions_submissioninputfile_submission_id_9ddf30d0", "submission_id"),
    Index("submissions_submissioninputfile_workflow_step_id_277d37a1", "workflow_step_id"),
)

purge_retries = Table(
    "submissions_purgeretry",
    metadata,
    identity_key(),
    moment("created_at"),
    moment("last_attempt_at", nullable=True),
    moment("next_retry_at"),
    integer("attempt_count"),
    long_text("last_error"),
    uuid("submission_id"),
    CheckConstraint("attempt_count >= 0", name="submissions_purgeretry_attempt_count_check"),
    UniqueConstraint("submission_id", name="uq_purge_retry_submission"),
    reference(
        "submission_id",
        "submissions_submission.id",
        "submissions_purgeret_submission_id_09b61208_fk_submissio",
    ),
    Index("submissions_next_re_8a75e8_idx", "next_retry_at", "attempt_count"),
    Index("submissions_purgeretry_next_retry_at_ca89ce00", "next_retry_at"),
    Index("submissions_purgeretry_submission_id_09b61208", "submission_id"),
)
