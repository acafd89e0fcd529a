"""What happened to a submission: runs, their steps, the attempts of a step, and summaries."""

from sqlalchemy import CheckConstraint, Index, Table, UniqueConstraint, text

from maintenance.schema.base import (
    bigint,
    identity_key,
    integer,
    jsonb,
    long_text,
    metadata,
    moment,
    one_of,
    reference,
    refers_to,
    uuid,
    varchar,
)
from maintenance.schema.vocabulary import ACTIVE_ATTEMPT_STATES, AttemptState

runs = Table(
    "validations_validationrun",
    metadata,
    moment("created"),
    moment("modified"),
    uuid("id", primary_key=True),
    varchar("status", 16),
    varchar("short_description", 255),
    moment("started_at", nullable=True),
    moment("ended_at", nullable=True),
    bigint("duration_ms"),
    long_text("error"),
    varchar("error_category", 32),
    varchar("source", 32),
    varchar("output_retention_policy", 32),
    moment("output_expires_at", nullable=True),
    moment("output_purged_at", nullable=True),
    bigint("org_id"),
    bigint("project_id", nullable=True),
    uuid("submission_id", nullable=True),
    bigint("user_id", nullable=True),
    bigint("workflow_id"),
    varchar("output_hash", 64),
    moment("definition_released_at", nullable=True),
    CheckConstraint(
        "ended_at IS NULL OR started_at IS NULL OR ended_at >= started_at",
        name="ck_run_times_valid",
    ),
    reference(
        "org_id", "users_organization.id", "validations_validati_org_id_3bcc313f_fk_users_org"
    ),
    reference(
        "project_id", "projects_project.id", "validations_validati_project_id_affa2a42_fk_projects_"
    ),
    reference(
        "submission_id",
        "submissions_submission.id",
        "validations_validati_submission_id_306366dd_fk_submissio",
    ),
    reference(
        "workflow_id",
        "workflows_workflow.id",
        "validations_validati_workflow_id_5601cb56_fk_workflows",
    ),
    reference(
        "user_id", "users_user.id", "validations_validationrun_user_id_9d2165b3_fk_users_user_id"
    ),
    Index(
        "run_unreleased_workflow_idx",
        "workflow_id",
        postgresql_where=text("definition_released_at IS NULL"),
    ),
    Index("validations_org_id_8bb46b_idx", "org_id", "project_id", "workflow_id", "created"),
    Index("validations_status_ba8d2b_idx", "status", "created"),
    Index("validations_validationrun_org_id_3bcc313f", "org_id"),
    Index("validations_validationrun_output_expires_at_c73f3e1a", "output_expires_at"),
    Index("validations_validationrun_project_id_affa2a42", "project_id"),
    Index("validations_validationrun_submission_id_306366dd", "submission_id"),
    Index("validations_validationrun_user_id_9d2165b3", "user_id"),
    Index("validations_validationrun_workflow_id_5601cb56", "workflow_id"),
)

run_summaries = Table(
    "validations_validationrunsummary",
    metadata,
    moment("created"),
    moment("modified"),
    uuid("run_id", primary_key=True),
    varchar("status", 16),
    moment("completed_at", nullable=True),
    integer("total_findings"),
    integer("error_count"),
    integer("warning_count"),
    integer("info_count"),
    integer("assertion_failure_count"),
    integer("assertion_total_count"),
    jsonb("extras"),
    CheckConstraint(
        "assertion_failure_count >= 0",
        name="validations_validationrunsummary_assertion_failure_count_check",
    ),
    CheckConstraint(
        "assertion_total_count >= 0",
        name="validations_validationrunsummary_assertion_total_count_check",
    ),
    CheckConstraint("error_count >= 0", name="validations_validationrunsummary_error_count_check"),
    CheckConstraint("info_count >= 0", name="validations_validationrunsummary_info_count_check"),
    CheckConstraint(
        "total_findings >= 0", name="validations_validationrunsummary_total_findings_check"
    ),
    CheckConstraint(
        "warning_count >= 0", name="validations_validationrunsummary_warning_count_check"
    ),
    reference(
        "run_id",
        "validations_validationrun.id",
        "validations_validati_run_id_aecf6bcc_fk_validatio",
    ),
)

step_runs = Table(
    "validations_validationsteprun",
    metadata,
    identity_key(),
    moment("created"),
    moment("modified"),
    integer("step_order"),
    varchar("status", 16),
    moment("started_at", nullable=True),
    moment("ended_at", nullable=True),
    bigint("duration_ms"),
    jsonb("output"),
    long_text("error"),
    uuid("validation_run_id"),
    bigint("workflow_step_id"),
    jsonb("input_values"),
    jsonb("output_values"),
    varchar("validator_backend_image_digest", 256),
    CheckConstraint(
        "ended_at IS NULL OR started_at IS NULL OR ended_at >= started_at",
        name="ck_step_run_times_valid",
    ),
    CheckConstraint("step_order >= 0", name="validations_validationsteprun_step_order_check"),
    UniqueConstraint("validation_run_id", "step_order", name="uq_step_run_run_order"),
    UniqueConstraint("validation_run_id", "workflow_step_id", name="uq_step_run_run_step"),
    reference(
        "validation_run_id",
        "validations_validationrun.id",
        "validations_validati_validation_run_id_f18511c7_fk_validatio",
    ),
    reference(
        "workflow_step_id",
        "workflows_workflowstep.id",
        "validations_validati_workflow_step_id_c4d834c1_fk_workflows",
    ),
    Index("validations_validat_1b7c62_idx", "validation_run_id", "status"),
    Index("validations_validationsteprun_validation_run_id_f18511c7", "validation_run_id"),
    Index("validations_validationsteprun_workflow_step_id_c4d834c1", "workflow_step_id"),
)

step_run_summaries = Table(
    "validations_validationsteprunsummary",
    metadata,
    identity_key(),
    moment("created"),
    moment("modified"),
    varchar("step_name", 255),
    integer("step_order"),
    varchar("status", 16),
    integer("error_count"),
    integer("warning_count"),
    integer("info_count"),
    bigint("step_run_id", nullable=True),
    uuid("summary_id"),
    CheckConstraint(
        "error_count >= 0", name="validations_validationsteprunsummary_error_count_check"
    ),
    CheckConstraint(
        "info_count >= 0", name="validations_validationsteprunsummary_info_count_check"
    ),
    CheckConstraint(
        "step_order >= 0", name="validations_validationsteprunsummary_step_order_check"
    ),
    CheckConstraint(
        "warning_count >= 0", name="validations_validationsteprunsummary_warning_count_check"
    ),
    UniqueConstraint("step_run_id", name="validations_validationsteprunsummary_step_run_id_key"),
    reference(
        "step_run_id",
        "validations_validationsteprun.id",
        "validations_validati_step_run_id_4c95090b_fk_validatio",
    ),
    reference(
        "summary_id",
        "validations_validationrunsummary.run_id",
        "validations_validati_summary_id_87e12d14_fk_validatio",
    ),
    Index("validations_summary_4cdb67_idx", "summary_id", "status"),
    Index("validations_validationsteprunsummary_summary_id_87e12d14", "summary_id"),
)

attempts = Table(
    "validations_executionattempt",
    metadata,
    moment("created"),
    moment("modified"),
    uuid("id", primary_key=True),
    integer("attempt_number"),
    varchar("state", 16),
    varchar("runner_type", 64),
    varchar("provider_resource_name", 512),
    varchar("provider_execution_id", 512),
    varchar("callback_nonce_hash", 128),
    varchar("execution_bundle_uri", 2048),
    varchar("input_envelope_uri", 2048),
    varchar("input_envelope_sha256", 64),
    varchar("output_envelope_uri", 2048),
    varchar("output_envelope_sha256", 64),
    varchar("backend_image_ref", 512),
    varchar("backend_image_digest", 256),
    moment("timeout_at", nullable=True),
    jsonb("retry_policy_snapshot"),
    moment("dispatch_started_at", nullable=True),
    moment("provider_started_at", nullable=True),
    moment("provider_finished_at", nullable=True),
    moment("terminal_at", nullable=True),
    varchar("provider_status_code", 64),
    varchar("last_error_code", 64),
    varchar("last_error", 2000),
    bigint("step_run_id"),
    jsonb("input_evidence_snapshot"),
    refers_to("validations_validatorexecutiondeployment", uuid("deployment_id", nullable=True)),
    jsonb("deployment_snapshot"),
    moment("provider_accepted_at", nullable=True),
    moment("callback_received_at", nullable=True),
    CheckConstraint("attempt_number >= 1", name="ck_attempt_number_positive"),
    CheckConstraint(
        "provider_finished_at IS NULL OR provider_started_at IS NULL"
        " OR provider_finished_at >= provider_started_at",
        name="ck_attempt_provider_times_valid",
    ),
    CheckConstraint(one_of("state", AttemptState), name="ck_attempt_state_known"),
    CheckConstraint(
        "attempt_number >= 0", name="validations_executionattempt_attempt_number_check"
    ),
    UniqueConstraint("step_run_id", "attempt_number", name="uq_attempt_step_number"),
    reference(
        "step_run_id",
        "validations_validationsteprun.id",
        "validations_executio_step_run_id_4b04701e_fk_validatio",
    ),
    Index(
        "uq_attempt_one_active_per_step",
        "step_run_id",
        unique=True,
        postgresql_where=text(one_of("state", ACTIVE_ATTEMPT_STATES)),
    ),
    Index(
        "uq_attempt_provider_execution",
        "runner_type",
        "provider_resource_name",
        "provider_execution_id",
        unique=True,
        postgresql_where=text("NOT provider_execution_id = ''"),
    ),
    Index("validations_executionattempt_deployment_id_idx", "deployment_id"),
    Index("validations_executionattempt_step_run_id_4b04701e", "step_run_id"),
    Index("validations_provide_664a0b_idx", "provider_execution_id"),
    Index("validations_state_2ec69f_idx", "state", "timeout_at"),
)
