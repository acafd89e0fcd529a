-- The database role of the maintenance jobs: what they read and write, column by column.
--
-- Made from maintenance/access.py by `python -m maintenance.grants`: do not edit.
--
-- Once, as a superuser or as the owner of Validibot's tables, in Validibot's database:
--
--     CREATE ROLE validibot_maintenance LOGIN;
--     \password validibot_maintenance
--     \i docs/database-role.sql
--
-- \password asks for the password and sends it encrypted, so that it is in no file, no history
-- and no log. Then put the role into the DATABASE_URL of the worker.
--
-- The role also needs CONNECT on the database. PUBLIC has it unless it was revoked; then:
--
--     GRANT CONNECT ON DATABASE validibot TO validibot_maintenance;
--
-- If Validibot's tables are in another schema than public, it needs USAGE on that one.
--
-- What only newer versions of Validibot have is granted where it exists. Read this file again after
-- an update of either application, and after each restore of the database, which drops all
-- privileges: granting a right twice does no harm.

-- PUBLIC has it, unless the schema was made anew, as a restore does.
DO $$ BEGIN
IF to_regnamespace('public') IS NOT NULL THEN
    GRANT USAGE ON SCHEMA public TO validibot_maintenance;
END IF;
END $$;

-- Celery Beat's tables, where they exist: to notice that Beat is still at work.
DO $$ BEGIN
IF to_regclass('django_celery_beat_periodictask') IS NOT NULL THEN
    GRANT SELECT (args, crontab_id, description, enabled, expires, id, interval_id, kwargs, last_run_at, name, one_off, start_time, task) ON django_celery_beat_periodictask TO validibot_maintenance;
END IF;
END $$;
DO $$ BEGIN
IF to_regclass('django_celery_beat_crontabschedule') IS NOT NULL THEN
    GRANT SELECT (day_of_month, day_of_week, hour, id, minute, month_of_year, timezone) ON django_celery_beat_crontabschedule TO validibot_maintenance;
END IF;
END $$;
DO $$ BEGIN
IF to_regclass('django_celery_beat_intervalschedule') IS NOT NULL THEN
    GRANT SELECT (every, id, period) ON django_celery_beat_intervalschedule TO validibot_maintenance;
END IF;
END $$;

GRANT
    SELECT (ctid, expires_at),
    UPDATE (expires_at),
    DELETE
    ON core_idempotencykey TO validibot_maintenance;
GRANT
    SELECT (app, applied, id, name)
    ON django_migrations TO validibot_maintenance;
GRANT
    SELECT (ctid, expire_date),
    UPDATE (expire_date),
    DELETE
    ON django_session TO validibot_maintenance;
GRANT
    SELECT (attempt_count, created_at, last_attempt_at, last_error, next_retry_at, submission_id),
    INSERT (attempt_count, created_at, last_attempt_at, last_error, next_retry_at, submission_id),
    UPDATE (attempt_count, last_attempt_at, last_error, next_retry_at),
    DELETE
    ON submissions_purgeretry TO validibot_maintenance;
GRANT
    SELECT (checksum_sha256, content_purged_at, created, expires_at, id, input_file, name, retention_policy),
    UPDATE (content, content_purged_at, expires_at, input_file, metadata, modified, name, original_filename, retention_policy)
    ON submissions_submission TO validibot_maintenance;
GRANT
    SELECT (file_purged_at, id, input_file, submission_id),
    UPDATE (content_type, file_purged_at, input_file, metadata, modified, original_filename)
    ON submissions_submissioninputfile TO validibot_maintenance;
GRANT
    SELECT (file, id, manifest_uri, storage_uri, validation_run_id),
    DELETE
    ON validations_artifact TO validibot_maintenance;
GRANT
    SELECT (ctid, id, received_at, result_uri, validation_run_id),
    UPDATE (received_at, result_uri),
    DELETE
    ON validations_callbackreceipt TO validibot_maintenance;
GRANT
    SELECT (attempt_number, created, execution_bundle_uri, id, input_envelope_sha256, input_envelope_uri, input_evidence_snapshot, last_error, last_error_code, output_envelope_sha256, output_envelope_uri, provider_execution_id, state, step_run_id, terminal_at, timeout_at),
    UPDATE (execution_bundle_uri, input_envelope_sha256, input_envelope_uri, input_evidence_snapshot, last_error, last_error_code, modified, output_envelope_sha256, output_envelope_uri, state, terminal_at)
    ON validations_executionattempt TO validibot_maintenance;
GRANT
    SELECT (step_run_id, value_snapshot),
    UPDATE (value_snapshot)
    ON validations_resolvedinputtrace TO validibot_maintenance;
GRANT
    SELECT (availability, generation_error, manifest_hash, manifest_path, modified, run_id, schema_version),
    INSERT (availability, created, generation_error, id, manifest_hash, manifest_path, modified, run_id, schema_version),
    UPDATE (availability, generation_error, manifest_hash, manifest_path, modified, schema_version)
    ON validations_runevidenceartifact TO validibot_maintenance;
GRANT
    SELECT (validation_run_id),
    DELETE
    ON validations_validationfinding TO validibot_maintenance;
GRANT
    SELECT (created, definition_released_at, duration_ms, ended_at, error, error_category, id, modified, org_id, output_expires_at, output_hash, output_purged_at, output_retention_policy, short_description, started_at, status, submission_id, user_id, workflow_id),
    UPDATE (definition_released_at, duration_ms, ended_at, error, error_category, modified, output_expires_at, output_hash, output_purged_at, output_retention_policy, short_description, status)
    ON validations_validationrun TO validibot_maintenance;
GRANT
    SELECT (error_count, extras, info_count, run_id, total_findings, warning_count),
    UPDATE (extras)
    ON validations_validationrunsummary TO validibot_maintenance;
GRANT
    SELECT (error, id, input_values, output, output_values, status, step_order, validation_run_id, validator_backend_image_digest, workflow_step_id),
    UPDATE (error, input_values, output, output_values)
    ON validations_validationsteprun TO validibot_maintenance;
GRANT
    SELECT (id, slug, version)
    ON validations_validator TO validibot_maintenance;
GRANT
    SELECT (id, slug, version)
    ON workflows_workflow TO validibot_maintenance;
GRANT
    SELECT ("order", id, step_key, validator_id, workflow_id)
    ON workflows_workflowstep TO validibot_maintenance;
-- Since Validibot 0.16:
DO $$ BEGIN
IF EXISTS (SELECT FROM pg_attribute
    WHERE attrelid = to_regclass('validations_callbackreceipt') AND attname = 'last_error') THEN
    GRANT
        SELECT (last_error),
        UPDATE (last_error)
        ON validations_callbackreceipt TO validibot_maintenance;
END IF;
END $$;
-- Since Validibot 0.16:
DO $$ BEGIN
IF EXISTS (SELECT FROM pg_attribute
    WHERE attrelid = to_regclass('validations_validationruncontinuation') AND attname = 'callback_receipt_id') THEN
    GRANT
        SELECT (callback_receipt_id, created, id, last_error, state, validation_run_id),
        UPDATE (callback_receipt_id, last_error)
        ON validations_validationruncontinuation TO validibot_maintenance;
END IF;
END $$;
