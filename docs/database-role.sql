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
-- The role also needs CONNECT on the database and USAGE on the schema. Everybody has both unless
-- they were revoked; then:
--
--     GRANT CONNECT ON DATABASE validibot TO validibot_maintenance;
--     GRANT USAGE ON SCHEMA public TO validibot_maintenance;
--
-- Read this file again after an update: granting a right twice does no harm.

GRANT
    SELECT (ctid, expires_at),
    UPDATE (expires_at),
    DELETE
    ON core_idempotencykey TO validibot_maintenance;
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
    SELECT (content_purged_at, created, ctid, expires_at, id, input_file, retention_policy),
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
    SELECT (ctid, received_at, result_uri, validation_run_id),
    UPDATE (received_at, result_uri),
    DELETE
    ON validations_callbackreceipt TO validibot_maintenance;
GRANT
    SELECT (execution_bundle_uri, id, input_envelope_sha256, input_envelope_uri, input_evidence_snapshot, last_error, output_envelope_sha256, output_envelope_uri, step_run_id),
    UPDATE (execution_bundle_uri, input_envelope_sha256, input_envelope_uri, input_evidence_snapshot, last_error, output_envelope_sha256, output_envelope_uri)
    ON validations_executionattempt TO validibot_maintenance;
GRANT
    SELECT (step_run_id, value_snapshot),
    UPDATE (value_snapshot)
    ON validations_resolvedinputtrace TO validibot_maintenance;
GRANT
    SELECT (validation_run_id),
    DELETE
    ON validations_validationfinding TO validibot_maintenance;
GRANT
    SELECT (ctid, ended_at, id, org_id, output_expires_at, output_purged_at, output_retention_policy, short_description, started_at, status, submission_id),
    UPDATE (ended_at, error, modified, output_expires_at, output_hash, output_purged_at, output_retention_policy, short_description)
    ON validations_validationrun TO validibot_maintenance;
GRANT
    SELECT (extras, run_id),
    UPDATE (extras)
    ON validations_validationrunsummary TO validibot_maintenance;
GRANT
    SELECT (error, id, input_values, output, output_values, validation_run_id),
    UPDATE (error, input_values, output, output_values)
    ON validations_validationsteprun TO validibot_maintenance;
