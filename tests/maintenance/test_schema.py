"""The tables are Validibot's: their constraints, and what they leave to the writer."""

from collections.abc import Mapping
from uuid import UUID

import pytest
from sqlalchemy import Engine, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError

from maintenance.schema import attempts, input_traces, metadata, runs, submissions
from maintenance.schema.vocabulary import (
    ACTIVE_ATTEMPT_STATES,
    TERMINAL_RUN_STATUSES,
    AttemptState,
    RunStatus,
)

SUBMISSION = {
    "created": "2026-11-15 12:00+00",
    "modified": "2026-11-15 12:00+00",
    "id": UUID(int=1),
    "name": "Model",
    "content": "a document",
    "input_file": None,
    "file_type": "TEXT",
    "original_filename": "model.idf",
    "size_bytes": 10,
    "checksum_sha256": "",
    "metadata": {},
    "retention_policy": "STORE_7_DAYS",
    "org_id": 1,
    "workflow_id": 1,
}
ATTEMPT = {
    column.name: 1 if column.name in ("attempt_number", "step_run_id") else ""
    for column in attempts.columns
    if not column.nullable
} | {
    "created": "2026-11-15 12:00+00",
    "modified": "2026-11-15 12:00+00",
    "id": UUID(int=1),
    "state": "RUNNING",
    "retry_policy_snapshot": {},
    "input_evidence_snapshot": {},
    "deployment_snapshot": {},
}


def constraint_refusing(database: Engine, *rows: tuple[str, Mapping[str, object]]) -> str | None:
    """The name of the rule that refuses the rows at once; deferred keys are not asked."""
    with database.connect() as connection:
        try:
            for table, row in rows:
                connection.execute(insert(metadata.tables[table]).values(row))
        except IntegrityError as error:
            name: str | None = error.orig.diag.constraint_name  # type: ignore[union-attr]
            return name
        finally:
            connection.rollback()
    return None


def test_no_column_has_a_default_except_identity_keys(database: Engine) -> None:
    with database.connect() as connection:
        defaults = connection.execute(
            text(
                "SELECT table_name, column_name, is_identity, identity_generation"
                " FROM information_schema.columns WHERE table_schema = 'public'"
                " AND (column_default IS NOT NULL OR is_identity = 'YES')"
            )
        ).all()
    assert {tuple(row) for row in defaults} == {
        (table.name, "id", "YES", "BY DEFAULT")
        for table in metadata.sorted_tables
        if "id" in table.columns and table.columns["id"].identity is not None
    }


def test_every_foreign_key_is_deferred_with_no_action(database: Engine) -> None:
    with database.connect() as connection:
        keys = connection.execute(
            text(
                "SELECT conname, condeferrable, condeferred, confdeltype::text, confupdtype::text"
                " FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace"
            )
        ).all()
    expected = {
        str(key.name) for table in metadata.sorted_tables for key in table.foreign_key_constraints
    }
    assert {tuple(row) for row in keys} == {(name, True, True, "a", "a") for name in expected}


def test_the_tables_that_the_database_holds_are_all_tables(database: Engine) -> None:
    assert set(inspect(database).get_table_names()) == set(metadata.tables)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, None),
        ({"content": ""}, "submission_content_present"),
        ({"content": "", "input_file": ""}, "submission_content_present"),
        ({"content": "", "input_file": "submissions/a.idf"}, None),
        ({"input_file": "submissions/a.idf"}, "submission_content_not_both"),
        ({"content_purged_at": "2026-11-15 12:00+00"}, "submission_purged_content_cleared"),
        ({"content_purged_at": "2026-11-15 12:00+00", "content": "", "input_file": ""}, None),
    ],
)
def test_a_submission_has_either_content_or_a_file_until_it_is_purged(
    database: Engine, changes: dict[str, object], rule: str | None
) -> None:
    assert constraint_refusing(database, ("submissions_submission", SUBMISSION | changes)) == rule


def test_a_step_has_one_active_attempt_at_most(database: Engine) -> None:
    table = "validations_executionattempt"
    second = ATTEMPT | {"id": UUID(int=2), "attempt_number": 2}
    for state in AttemptState:
        refused = constraint_refusing(
            database, (table, ATTEMPT), (table, second | {"state": state.value})
        )
        active = state in ACTIVE_ATTEMPT_STATES
        assert refused == ("uq_attempt_one_active_per_step" if active else None)


def test_an_attempt_is_in_a_known_state(database: Engine) -> None:
    row = ATTEMPT | {"state": "LOST"}
    rule = constraint_refusing(database, ("validations_executionattempt", row))
    assert rule == "ck_attempt_state_known"


def test_a_foreign_key_is_checked_at_commit_only(database: Engine) -> None:
    with database.connect() as connection:
        connection.execute(insert(submissions).values(SUBMISSION))
        assert connection.scalars(select(submissions.c.id)).all() == [UUID(int=1)]
        with pytest.raises(IntegrityError, match="violates foreign key"):
            connection.commit()


def test_none_in_a_json_column_is_null(database: Engine) -> None:
    with database.connect() as connection:
        connection.execute(
            insert(input_traces).values(
                created="2026-11-15 12:00+00",
                modified="2026-11-15 12:00+00",
                input_contract_key="",
                source_scope_used="",
                source_data_path_used="",
                upstream_step_key="",
                resolved=True,
                used_default=False,
                value_snapshot=None,
                error_message="",
                step_run_id=1,
            )
        )
        null = connection.scalar(
            text("SELECT value_snapshot IS NULL FROM validations_resolvedinputtrace")
        )
        connection.rollback()
    assert null is True


def test_tables_are_sorted_without_a_circle() -> None:
    order = metadata.sorted_tables
    assert order.index(submissions) < order.index(runs)


def test_a_run_is_active_unless_it_is_terminal() -> None:
    assert set(RunStatus) - set(TERMINAL_RUN_STATUSES) == {RunStatus.PENDING, RunStatus.RUNNING}
