"""The preflight of the database names what is missing, and the jobs that need it."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, create_engine, text

from demo.embedded import EmbeddedServer
from maintenance import schema
from maintenance.access import ACCESS
from maintenance.catalogue import check_schema
from maintenance.checks.continuations import CONTINUATIONS
from maintenance.checks.database import (
    DATABASE,
    GRANTS,
    INDEXES,
    NAMES,
    SEARCHED,
    TABLES,
    VERSION,
    database_check,
)
from maintenance.checks.finding import Finding, Severity, carry_out
from maintenance.database import dispose_engines
from maintenance.errors import SchemaMismatch
from maintenance.grants import grants
from maintenance.settings import Settings, load_settings
from tests.support.validibot import Validibot

ROLE = "preflight"
FINE = dict.fromkeys(NAMES, "ok")


def found(settings: Settings) -> dict[str, Finding]:
    return {one.name: one for one in carry_out([database_check(settings)])}


def levels(findings: dict[str, Finding]) -> dict[str, str]:
    return {name: str(one.level) for name, one in findings.items()}


def change(validibot: Validibot, statement: str) -> None:
    with validibot.engine.begin() as connection:
        connection.execute(text(statement))


@pytest.fixture(scope="module")
def role(server: EmbeddedServer) -> Iterator[str]:
    address = server.url("postgres").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))
        yield ROLE
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(ROLE)))


@pytest.fixture
def limited(role: str, environment: Settings, database_url: URL) -> Iterator[Settings]:
    """Settings with a role that has no privileges yet."""
    url = database_url.set(username=role).render_as_string(hide_password=False)
    yield load_settings(DATABASE_URL=url, STORAGE_ROOT=environment.storage_root)
    dispose_engines()


def test_every_check_passes_for_the_documented_role(
    limited: Settings, role: str, validibot: Validibot
) -> None:
    change(validibot, grants(role, ACCESS))
    before = validibot.snapshot()
    findings = found(limited)
    assert levels(findings) == FINE
    assert f"role {role}" in findings[DATABASE].text
    assert "schema public" in findings[DATABASE].text
    assert validibot.snapshot() == before


def test_a_missing_privilege_is_named_with_the_jobs_that_need_it(
    limited: Settings, role: str, validibot: Validibot
) -> None:
    change(validibot, grants(role, ACCESS))
    change(validibot, f"REVOKE DELETE ON django_session FROM {role}")
    change(validibot, f"REVOKE SELECT (ctid) ON core_idempotencykey FROM {role}")
    change(validibot, f"REVOKE UPDATE (name, content) ON submissions_submission FROM {role}")
    findings = found(limited)
    assert levels(findings) == FINE | {GRANTS: "error"}
    assert findings[GRANTS].text == (
        "the role lacks SELECT (ctid) ON core_idempotencykey, DELETE ON django_session,"
        " UPDATE (content, name) ON submissions_submission (needed by purge-expired-submissions,"
        " process-purge-retries, cleanup-idempotency-keys, clear-sessions, reclaim-residue)"
    )
    assert "docs/database-role.sql" in findings[GRANTS].action


def test_a_role_without_privileges_lacks_grants_not_tables(
    limited: Settings, validibot: Validibot
) -> None:
    findings = found(limited)
    assert levels(findings) == FINE | {GRANTS: "error", CONTINUATIONS: "warning"}
    assert "more (needed by " in findings[GRANTS].text
    assert all(job in findings[GRANTS].text for job in ACCESS)


def test_missing_columns_and_tables_are_named(environment: Settings, validibot: Validibot) -> None:
    change(validibot, "ALTER TABLE submissions_submission RENAME expires_at TO expires")
    change(validibot, "ALTER TABLE django_session RENAME TO sessions")
    findings = found(environment)
    assert levels(findings) == FINE | {
        VERSION: "warning",
        TABLES: "error",
        GRANTS: "warning",
        INDEXES: "warning",
        CONTINUATIONS: "warning",
    }
    assert findings[GRANTS].text == "not checked of 1 table that is missing"
    assert findings[TABLES].text == (
        "column submissions_submission.expires_at is missing, table django_session is missing"
        " (used by purge-expired-submissions, purge-expired-outputs, process-purge-retries,"
        " cleanup-stuck-runs, clear-sessions, reclaim-residue)"
    )


def test_an_empty_database_has_no_tables_whose_grants_could_be_right(
    server: EmbeddedServer,
) -> None:
    url = server.create_database("empty_validibot").render_as_string(hide_password=False)
    findings = found(load_settings(DATABASE_URL=url))
    dispose_engines()
    server.drop_database("empty_validibot")
    assert levels(findings) == dict.fromkeys(NAMES, "warning") | {DATABASE: "ok", TABLES: "error"}
    assert findings[TABLES].text == "none of Validibot's tables is in this database"
    assert "DATABASE_URL" in findings[TABLES].action
    assert findings[GRANTS].text.startswith("not checked of ")


def test_a_schema_that_the_role_may_not_use_is_a_missing_grant_and_no_missing_table(
    limited: Settings, role: str, validibot: Validibot
) -> None:
    change(validibot, grants(role, ACCESS))
    change(validibot, f"REVOKE USAGE ON SCHEMA public FROM PUBLIC, {role}")
    findings = found(limited)
    assert levels(findings) == dict.fromkeys(NAMES, "warning") | {DATABASE: "ok", GRANTS: "error"}
    assert findings[GRANTS].text == "the role lacks USAGE ON SCHEMA public"
    assert "docs/database-role.sql" in findings[GRANTS].action
    engine = create_engine(limited.url)
    with engine.connect() as connection, pytest.raises(SchemaMismatch) as refused:
        check_schema(connection, ACCESS["clear-sessions"])
    engine.dispose()
    assert str(refused.value) == (
        f"role {role} lacks USAGE ON SCHEMA public: grant it as in docs/database-role.sql;"
        " nothing was touched"
    )


def test_tables_in_a_schema_outside_the_search_path_are_reported(
    environment: Settings, validibot: Validibot
) -> None:
    change(validibot, "CREATE SCHEMA elsewhere")
    change(validibot, "ALTER TABLE django_session SET SCHEMA elsewhere")
    finding = found(environment)[TABLES]
    assert finding.text == "table django_session is missing (used by clear-sessions)"
    assert "in schema elsewhere" in finding.action


def test_a_missing_index_is_a_warning_with_the_statement_that_creates_it(
    environment: Settings, validibot: Validibot
) -> None:
    change(validibot, "DROP INDEX django_session_expire_date_a5c62663")
    change(validibot, "DROP INDEX submissions_submission_expires_at_df040673")
    findings = found(environment)
    assert levels(findings) == FINE | {INDEXES: "warning"}
    assert findings[INDEXES].text == "2 are missing, which slows jobs down"
    statements = findings[INDEXES].action.split("; ")
    assert statements == [
        "CREATE INDEX CONCURRENTLY ON submissions_submission (expires_at)",
        "CREATE INDEX CONCURRENTLY ON django_session (expire_date)",
    ]
    for statement in statements:
        change(validibot, statement.replace(" CONCURRENTLY", ""))
    assert found(environment)[INDEXES].level is Severity.OK


def test_every_searched_column_is_a_declared_one() -> None:
    for table, column in SEARCHED:
        assert column in schema.metadata.tables[table].columns
        assert any(column in access.select.get(table, ()) for access in ACCESS.values())


def test_10_8_a_role_that_only_reads_by_default_is_no_obstacle(
    limited: Settings, role: str, validibot: Validibot
) -> None:
    change(validibot, grants(role, ACCESS))
    change(validibot, f"ALTER ROLE {role} SET default_transaction_read_only = on")
    findings = found(limited)
    change(validibot, f"ALTER ROLE {role} RESET default_transaction_read_only")
    assert levels(findings) == FINE


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u:hidden-password@127.0.0.1:1/x", "Connection refused"),
        ("postgresql://u:hidden-password@nowhere.invalid/x", "nowhere.invalid"),
    ],
)
def test_an_unreachable_database_is_one_error_without_the_password(url: str, words: str) -> None:
    findings = found(load_settings(DATABASE_URL=url))
    dispose_engines()
    assert levels(findings) == dict.fromkeys(NAMES, "warning") | {DATABASE: "error"}
    assert words in findings[DATABASE].text
    assert "hidden-password" not in str(findings)
