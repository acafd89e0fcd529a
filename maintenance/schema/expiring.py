"""Tables whose rows are deleted by age: callback receipts, idempotency keys, sessions."""

from sqlalchemy import Index, Table, UniqueConstraint

from maintenance.schema.base import (
    bigint,
    inet,
    jsonb,
    long_text,
    metadata,
    moment,
    pattern_index,
    reference,
    smallint,
    uuid,
    varchar,
)

callback_receipts = Table(
    "validations_callbackreceipt",
    metadata,
    uuid("id", primary_key=True),
    varchar("callback_id", 255),
    moment("received_at"),
    varchar("status", 50),
    varchar("result_uri", 500),
    uuid("validation_run_id"),
    uuid("execution_attempt_id"),
    UniqueConstraint("callback_id", name="validations_callbackreceipt_callback_id_key"),
    reference(
        "execution_attempt_id",
        "validations_executionattempt.id",
        "validations_callback_execution_attempt_id_f41a31c0_fk_validatio",
    ),
    reference(
        "validation_run_id",
        "validations_validationrun.id",
        "validations_callback_validation_run_id_8b60e51c_fk_validatio",
    ),
    Index("validations_callbac_647c8a_idx", "callback_id"),
    pattern_index("validations_callbackreceipt_callback_id_31c5c663_like", "callback_id"),
    Index("validations_callbackreceipt_execution_attempt_id_f41a31c0", "execution_attempt_id"),
    Index("validations_callbackreceipt_validation_run_id_8b60e51c", "validation_run_id"),
    Index("validations_receive_c9be3d_idx", "received_at"),
    Index("validations_validat_2570c9_idx", "validation_run_id"),
)

idempotency_keys = Table(
    "core_idempotencykey",
    metadata,
    moment("created"),
    moment("modified"),
    uuid("id", primary_key=True),
    varchar("key", 255),
    varchar("endpoint", 100),
    varchar("request_hash", 64),
    varchar("status", 20),
    smallint("response_status", nullable=True),
    jsonb("response_body", nullable=True),
    jsonb("response_headers"),
    moment("expires_at"),
    inet("request_ip", nullable=True),
    varchar("user_agent", 500),
    bigint("org_id"),
    uuid("validation_run_id", nullable=True),
    UniqueConstraint("org_id", "key", "endpoint", name="uq_idempotency_org_key_endpoint"),
    reference(
        "org_id",
        "users_organization.id",
        "core_idempotencykey_org_id_cbacae11_fk_users_organization_id",
    ),
    reference(
        "validation_run_id",
        "validations_validationrun.id",
        "core_idempotencykey_validation_run_id_5f3a7624_fk_validatio",
    ),
    Index("core_idempo_expires_6bf43d_idx", "expires_at"),
    Index("core_idempo_org_id_cf6934_idx", "org_id", "key", "endpoint"),
    Index("core_idempotencykey_key_b99a456d", "key"),
    pattern_index("core_idempotencykey_key_b99a456d_like", "key"),
    Index("core_idempotencykey_org_id_cbacae11", "org_id"),
    Index("core_idempotencykey_validation_run_id_5f3a7624", "validation_run_id"),
)

sessions = Table(
    "django_session",
    metadata,
    varchar("session_key", 40, primary_key=True),
    long_text("session_data"),
    moment("expire_date"),
    Index("django_session_expire_date_a5c62663", "expire_date"),
    pattern_index("django_session_session_key_c0390e0f_like", "session_key"),
)
