"""The outputs of a run: findings, artifacts, the evidence receipt, traces of resolved inputs."""

from sqlalchemy import Index, Table, UniqueConstraint, text

from maintenance.schema.base import (
    bigint,
    boolean,
    identity_key,
    jsonb,
    long_text,
    metadata,
    moment,
    pattern_index,
    reference,
    uuid,
    varchar,
)

findings = Table(
    "validations_validationfinding",
    metadata,
    identity_key(),
    moment("created"),
    moment("modified"),
    varchar("severity", 16),
    varchar("code", 64),
    long_text("message"),
    varchar("path", 512),
    jsonb("meta"),
    bigint("ruleset_assertion_id", nullable=True),
    uuid("validation_run_id"),
    bigint("validation_step_run_id"),
    # ruleset_assertion_id refers to validations_rulesetassertion: no job uses it, no key.
    reference(
        "validation_run_id",
        "validations_validationrun.id",
        "validations_validati_validation_run_id_bcd5e5a3_fk_validatio",
    ),
    reference(
        "validation_step_run_id",
        "validations_validationsteprun.id",
        "validations_validati_validation_step_run__01e80baa_fk_validatio",
    ),
    Index("validations_validat_288fdf_idx", "validation_run_id", "severity"),
    Index("validations_validat_8354a9_idx", "validation_step_run_id", "severity"),
    Index("validations_validat_a1aede_idx", "validation_step_run_id", "code"),
    Index("validations_validationfinding_ruleset_assertion_id_f687ae4f", "ruleset_assertion_id"),
    Index("validations_validationfinding_validation_run_id_bcd5e5a3", "validation_run_id"),
    Index(
        "validations_validationfinding_validation_step_run_id_01e80baa", "validation_step_run_id"
    ),
)

artifacts = Table(
    "validations_artifact",
    metadata,
    identity_key(),
    moment("created"),
    moment("modified"),
    varchar("label", 120),
    varchar("content_type", 128),
    varchar("file", 500),
    bigint("size_bytes"),
    bigint("org_id"),
    uuid("validation_run_id"),
    varchar("contract_key", 255),
    varchar("data_format", 64),
    varchar("item_key", 255),
    varchar("kind", 32),
    varchar("manifest_sha256", 64),
    varchar("manifest_uri", 1000),
    jsonb("metadata"),
    varchar("producer_backend_image_digest", 256),
    varchar("producer_validator_type", 80),
    varchar("producer_validator_version", 32),
    varchar("retention_class", 64),
    varchar("role", 80),
    varchar("sha256", 64),
    bigint("step_run_id", nullable=True),
    varchar("storage_uri", 1000),
    bigint("workflow_step_id", nullable=True),
    varchar("storage_version", 512),
    reference(
        "org_id",
        "users_organization.id",
        "validations_artifact_org_id_4551c8fc_fk_users_organization_id",
    ),
    reference(
        "step_run_id",
        "validations_validationsteprun.id",
        "validations_artifact_step_run_id_85721ff7_fk_validatio",
    ),
    reference(
        "validation_run_id",
        "validations_validationrun.id",
        "validations_artifact_validation_run_id_38d5d443_fk_validatio",
    ),
    reference(
        "workflow_step_id",
        "workflows_workflowstep.id",
        "validations_artifact_workflow_step_id_c5b22784_fk_workflows",
    ),
    Index(
        "uq_artifact_run_step_item",
        "validation_run_id",
        "workflow_step_id",
        "contract_key",
        "item_key",
        unique=True,
        postgresql_where=text(
            "workflow_step_id IS NOT NULL AND NOT contract_key = '' AND NOT item_key = ''"
        ),
    ),
    Index(
        "uq_artifact_run_step_key",
        "validation_run_id",
        "workflow_step_id",
        "contract_key",
        unique=True,
        postgresql_where=text(
            "workflow_step_id IS NOT NULL AND NOT contract_key = '' AND item_key = ''"
        ),
    ),
    Index("validations_artifact_contract_key_ad155e91", "contract_key"),
    pattern_index("validations_artifact_contract_key_ad155e91_like", "contract_key"),
    Index("validations_artifact_item_key_8cbd51d0", "item_key"),
    pattern_index("validations_artifact_item_key_8cbd51d0_like", "item_key"),
    Index("validations_artifact_org_id_4551c8fc", "org_id"),
    Index("validations_artifact_step_run_id_85721ff7", "step_run_id"),
    Index("validations_artifact_validation_run_id_38d5d443", "validation_run_id"),
    Index("validations_artifact_workflow_step_id_c5b22784", "workflow_step_id"),
    Index("validations_step_ru_7b9ffc_idx", "step_run_id", "contract_key"),
    Index("validations_validat_517e90_idx", "validation_run_id", "created"),
)

evidence = Table(
    "validations_runevidenceartifact",
    metadata,
    moment("created"),
    moment("modified"),
    uuid("id", primary_key=True),
    varchar("schema_version", 64),
    varchar("manifest_path", 500),
    varchar("manifest_hash", 64),
    varchar("availability", 16),
    long_text("generation_error"),
    uuid("run_id"),
    UniqueConstraint("run_id", name="validations_runevidenceartifact_run_id_key"),
    reference(
        "run_id",
        "validations_validationrun.id",
        "validations_runevide_run_id_03b51605_fk_validatio",
    ),
    Index("validations_availab_3491fc_idx", "availability", "created"),
    Index("validations_schema__bbcd3d_idx", "schema_version"),
)

input_traces = Table(
    "validations_resolvedinputtrace",
    metadata,
    identity_key(),
    moment("created"),
    moment("modified"),
    varchar("input_contract_key", 255),
    varchar("source_scope_used", 30),
    varchar("source_data_path_used", 500),
    varchar("upstream_step_key", 100),
    boolean("resolved"),
    boolean("used_default"),
    jsonb("value_snapshot", nullable=True),
    long_text("error_message"),
    bigint("step_run_id"),
    bigint("io_definition_id", nullable=True),
    # io_definition_id refers to validations_stepiodefinition: no job uses it, no key.
    reference(
        "step_run_id",
        "validations_validationsteprun.id",
        "validations_resolved_step_run_id_ac1b89d5_fk_validatio",
    ),
    Index("validations_resolvedinputtrace_io_definition_id_0e0bf8fa", "io_definition_id"),
    Index("validations_resolvedinputtrace_step_run_id_ac1b89d5", "step_run_id"),
)
