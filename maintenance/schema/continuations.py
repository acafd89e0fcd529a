"""Continuations of runs: a step has ended by a callback, and the next one must be started.

Validibot 0.16 writes one with each such callback, and hands it to its worker. One that does not end
is redelivered by Validibot's own command (docs/migration.md).
"""

from sqlalchemy import CheckConstraint, Index, Table, UniqueConstraint

from maintenance.schema.base import (
    SINCE,
    Version,
    bigint,
    integer,
    metadata,
    moment,
    one_of,
    reference,
    uuid,
    varchar,
)
from maintenance.schema.vocabulary import ContinuationState

continuations = Table(
    "validations_validationruncontinuation",
    metadata,
    moment("created"),
    moment("modified"),
    uuid("id", primary_key=True),
    integer("resume_from_step"),
    varchar("state", 16),
    uuid("dispatch_token", nullable=True),
    moment("dispatch_started_at", nullable=True),
    integer("dispatch_attempts"),
    varchar("transport_task_id", 512),
    moment("dispatched_at", nullable=True),
    uuid("execution_token", nullable=True),
    moment("execution_started_at", nullable=True),
    integer("execution_attempts"),
    moment("completed_at", nullable=True),
    varchar("last_error_code", 64),
    varchar("last_error", 2000),
    uuid("callback_receipt_id", nullable=True),
    bigint("completed_step_run_id"),
    uuid("validation_run_id"),
    CheckConstraint(
        one_of("state", ContinuationState), name="ck_validation_continuation_state_known"
    ),
    CheckConstraint(
        "dispatch_attempts >= 0",
        name="validations_validationruncontinuation_dispatch_attempts_check",
    ),
    CheckConstraint(
        "execution_attempts >= 0",
        name="validations_validationruncontinuation_execution_attempts_check",
    ),
    CheckConstraint(
        "resume_from_step >= 0",
        name="validations_validationruncontinuation_resume_from_step_check",
    ),
    UniqueConstraint(
        "callback_receipt_id",
        name="validations_validationruncontinuation_callback_receipt_id_key",
    ),
    UniqueConstraint(
        "completed_step_run_id",
        name="validations_validationruncontinuation_completed_step_run_id_key",
    ),
    reference(
        "callback_receipt_id",
        "validations_callbackreceipt.id",
        "validations_validati_callback_receipt_id_3de35288_fk_validatio",
    ),
    reference(
        "completed_step_run_id",
        "validations_validationsteprun.id",
        "validations_validati_completed_step_run_i_9d1bc07f_fk_validatio",
    ),
    reference(
        "validation_run_id",
        "validations_validationrun.id",
        "validations_validati_validation_run_id_b092f696_fk_validatio",
    ),
    Index("validations_state_323e39_idx", "state", "dispatch_started_at"),
    Index("validations_state_e1c8c8_idx", "state", "created"),
    Index("validations_state_feb541_idx", "state", "execution_started_at"),
    Index("validations_validationrunc_validation_run_id_b092f696", "validation_run_id"),
    info={SINCE: Version.V0_16},
)
