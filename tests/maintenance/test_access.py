"""The privileges of the jobs' database role: documented, sufficient, and no more than needed."""

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import URL, text

from demo.embedded import EmbeddedServer
from flows.jobs import JOBS
from maintenance import schema
from maintenance import settings as settings_module
from maintenance.access import ACCESS
from maintenance.database import dispose_engines
from maintenance.expiring import EXPIRING
from maintenance.grants import ROLE, document, grants
from maintenance.report import StopReason
from maintenance.settings import Settings
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

FILE = Path(__file__).parents[2] / "docs" / "database-role.sql"
WRITING = sorted(job for job, access in ACCESS.items() if access.update or access.delete)
"""The job that only reads the database is tested under its role with its container engine."""

LIMITED = 'the"limited"role'


def address(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def role(server: EmbeddedServer) -> Iterator[str]:
    with psycopg.connect(address(server.url("postgres")), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(LIMITED)))
        yield LIMITED
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(LIMITED)))


@pytest.fixture
def limited(
    role: str, environment: Settings, database_url: URL, monkeypatch: pytest.MonkeyPatch
) -> Iterator[URL]:
    """The address of the test's database for a role without privileges, which jobs use."""
    url = database_url.set(username=role)
    monkeypatch.setenv("DATABASE_URL", address(url))
    settings_module.settings.cache_clear()
    yield url
    dispose_engines()


def grant(validibot: Validibot, role: str, *jobs: str) -> None:
    with validibot.engine.begin() as connection:
        connection.execute(text(grants(role, jobs)))


def test_the_file_is_what_the_code_renders() -> None:
    assert FILE.read_text() == document(), "python -m maintenance.grants > docs/database-role.sql"


def test_the_file_holds_no_password() -> None:
    statements = re.sub(r"--.*", "", FILE.read_text()).upper()
    assert "GRANT" in statements
    assert "PASSWORD" not in statements
    assert "CREATE ROLE" not in statements


def test_the_file_grants_the_rights_of_every_job() -> None:
    assert document().endswith(grants(ROLE, ACCESS))
    assert set(ACCESS) == set(JOBS)


@pytest.mark.parametrize("job", WRITING)
def test_the_physical_location_of_rows_is_readable_only_in_tables_deleted_by_age(
    job: str, limited: URL, role: str, validibot: Validibot
) -> None:
    """PostgreSQL asks for the right to read a system column, as for any other one."""
    grant(validibot, role, job)
    by_age = {one.table.name for one in EXPIRING} if JOBS[job].expiring else set()
    with psycopg.connect(address(limited), autocommit=True) as connection:
        for table in ACCESS[job].select:
            if table in by_age:
                connection.execute(f"SELECT ctid FROM {table}".encode())
                continue
            with pytest.raises(InsufficientPrivilege):
                connection.execute(f"SELECT ctid FROM {table}".encode())


@pytest.mark.parametrize("job", sorted(ACCESS))
def test_declared_columns_exist(job: str) -> None:
    tables = schema.metadata.tables
    known = {name: {column.name for column in tables[name].columns} for name in tables}
    unknown = {
        (table, column)
        for table, columns in ACCESS[job].columns().items()
        for column in columns
        if column not in known.get(table, set())
    }
    assert unknown == set()


@pytest.mark.parametrize("job", WRITING)
def test_a_job_runs_with_the_rights_that_are_granted_for_it(
    job: str, limited: URL, role: str, validibot_with_work: Validibot
) -> None:
    grant(validibot_with_work, role, job)
    before = validibot_with_work.snapshot()
    forecast = run(JOBS[job].flow, as_of=NOW, dry_run=True)
    assert validibot_with_work.snapshot() == before
    report = run(JOBS[job].flow, as_of=NOW)
    assert report.stopped_because is StopReason.DRAINED
    assert report.selected == forecast.selected
    assert report.done > 0
    assert validibot_with_work.snapshot() != before
    causes = {failure.cause for failure in report.failures}
    assert {cause.partition(": ")[2] for cause in causes} <= {
        "submissions/folder: is a directory where a file was expected"
    }


@pytest.mark.parametrize("job", sorted(ACCESS))
def test_a_job_leaves_the_same_under_this_role_as_under_the_owner(
    job: str, limited: URL, role: str, validibot_with_work: Validibot, environment: Settings
) -> None:
    """Rights that are missing must not show as less work done."""
    grant(validibot_with_work, role, job)
    mine = run(JOBS[job].flow, as_of=NOW, dry_run=True)
    dispose_engines()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", address(environment.url))
        settings_module.settings.cache_clear()
        owners = run(JOBS[job].flow, as_of=NOW, dry_run=True)
        dispose_engines()
    settings_module.settings.cache_clear()
    left_out = {"duration_seconds"}
    assert mine.model_dump(exclude=left_out) == owners.model_dump(exclude=left_out)


def test_sessions_are_cleared_past_a_locked_one(
    limited: URL, role: str, validibot: Validibot
) -> None:
    grant(validibot, role, "clear-sessions")
    expired = {validibot.session(NOW - DAY * n) for n in (1, 2, 3)}
    locked = min(expired)
    lock = text("SELECT FROM django_session WHERE session_key = :key FOR UPDATE")
    with validibot.engine.begin() as other:
        other.execute(lock, {"key": locked})
        report = run(JOBS["clear-sessions"].flow, as_of=NOW)
    assert set(validibot.rows(schema.sessions)) == {locked}
    assert (report.done, report.failed) == (2, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT content FROM submissions_submission",
        "SELECT * FROM submissions_submission",
        "SELECT metadata FROM submissions_submission",
        "UPDATE validations_validationrun SET started_at = NULL",
        "UPDATE validations_executionattempt SET timeout_at = NULL",
        "DELETE FROM validations_runevidenceartifact",
        "DELETE FROM submissions_submission",
        "TRUNCATE submissions_purgeretry",
        "UPDATE submissions_submission SET checksum_sha256 = ''",
        "UPDATE submissions_submission SET user_id = NULL",
        "INSERT INTO submissions_submission SELECT FROM submissions_submission",
        "DELETE FROM validations_validationrun",
        "SELECT session_data FROM django_session",
        "SELECT session_key FROM django_session",
        "SELECT key FROM core_idempotencykey",
        "SELECT callback_id FROM validations_callbackreceipt",
        "INSERT INTO validations_callbackreceipt SELECT FROM validations_callbackreceipt",
        "SELECT * FROM users_user",
        "ALTER TABLE django_session ADD extra integer",
        "DROP TABLE django_session",
        "CREATE TABLE more (id integer)",
    ],
)
def test_what_no_job_needs_is_refused(
    limited: URL, role: str, validibot_with_work: Validibot, statement: str
) -> None:
    grant(validibot_with_work, role, *ACCESS)
    before = validibot_with_work.snapshot()
    with psycopg.connect(address(limited)) as connection:
        found = connection.execute("SELECT id FROM submissions_submission").fetchall()
        assert {key for (key,) in found} == set(validibot_with_work.rows(schema.submissions))
        with pytest.raises(InsufficientPrivilege):
            connection.execute(statement.encode())
        connection.rollback()
    assert validibot_with_work.snapshot() == before


def test_only_the_jobs_that_are_named_are_granted() -> None:
    assert grants("alice", ["clear-sessions"]) == (
        "GRANT\n"
        "    SELECT (ctid, expire_date),\n"
        "    UPDATE (expire_date),\n"
        "    DELETE\n"
        "    ON django_session TO alice;\n"
    )


def test_a_name_that_needs_quotes_gets_them() -> None:
    name = f'Robert"; DROP TABLE x; {uuid.UUID(int=0)}'
    quoted = 'TO "Robert""; DROP TABLE x; 00000000-0000-0000-0000-000000000000";'
    assert quoted in grants(name, ["clear-sessions"])
