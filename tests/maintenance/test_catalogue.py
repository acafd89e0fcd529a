from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from demo.embedded import EmbeddedServer
from maintenance.access import ACCESS, Access
from maintenance.catalogue import check_schema
from maintenance.errors import SchemaMismatch

PURGE = ACCESS["purge-expired-submissions"]


def mismatch(connection: Connection, access: Access = PURGE) -> str:
    with pytest.raises(SchemaMismatch) as caught:
        check_schema(connection, access)
    return str(caught.value)


@pytest.fixture
def connection(database: Engine) -> Iterator[Connection]:
    with database.begin() as connected:
        yield connected


@pytest.mark.parametrize("job", sorted(ACCESS))
def test_the_schema_of_validibot_suits_every_job(connection: Connection, job: str) -> None:
    check_schema(connection, ACCESS[job])
    with pytest.raises(SchemaMismatch):
        check_schema(connection, Access(select={"django_session": ("no_such_column",)}))


def test_a_missing_table_is_named(connection: Connection) -> None:
    connection.execute(text("DROP TABLE submissions_purgeretry"))
    assert mismatch(connection) == (
        "this database is not the Validibot that the job knows: table submissions_purgeretry"
        " is missing; nothing was touched"
    )


def test_a_missing_column_is_named_with_its_table(connection: Connection) -> None:
    connection.execute(
        text("ALTER TABLE submissions_submission RENAME COLUMN expires_at TO expiry")
    )
    assert "column submissions_submission.expires_at is missing" in mismatch(connection)


def test_everything_that_is_missing_is_named_at_once(connection: Connection) -> None:
    for statement in (
        "DROP TABLE submissions_purgeretry",
        "DROP TABLE validations_resolvedinputtrace CASCADE",
        "ALTER TABLE submissions_submission DROP COLUMN expires_at CASCADE",
        "ALTER TABLE submissions_submission DROP COLUMN metadata",
        "ALTER TABLE validations_validationrun DROP COLUMN short_description",
    ):
        connection.execute(text(statement))
    assert mismatch(connection).split(": ")[1] == (
        "table submissions_purgeretry is missing, table validations_resolvedinputtrace is missing,"
        " column submissions_submission.expires_at is missing,"
        " column submissions_submission.metadata is missing,"
        " column validations_validationrun.short_description is missing; nothing was touched"
    )


def test_a_column_that_is_only_updated_or_inserted_is_checked_too(connection: Connection) -> None:
    for access in (
        Access(select={}, update={"django_session": ("no_such",)}),
        Access(select={}, insert={"django_session": ("no_such",)}),
    ):
        assert "column django_session.no_such is missing" in mismatch(connection, access)


def test_a_table_that_is_only_deleted_from_is_checked_too(connection: Connection) -> None:
    assert "table no_such is missing" in mismatch(
        connection, Access(select={}, delete=("no_such",))
    )


def test_system_columns_are_not_required(connection: Connection) -> None:
    check_schema(connection, Access(select={"django_session": ("ctid", "expire_date")}))
    message = mismatch(connection, Access(select={"django_session": ("ctid", "no_such")}))
    assert "ctid" not in message


def test_a_table_of_another_schema_does_not_count(connection: Connection) -> None:
    connection.execute(text("CREATE SCHEMA elsewhere"))
    connection.execute(text("ALTER TABLE django_session SET SCHEMA elsewhere"))
    access = ACCESS["clear-sessions"]
    assert "table django_session is missing" in mismatch(connection, access)
    connection.execute(text("SET LOCAL search_path = elsewhere"))
    check_schema(connection, access)


def test_a_missing_grant_is_called_a_missing_grant(
    server: EmbeddedServer, database: Engine
) -> None:
    with psycopg.connect(
        server.url("postgres").render_as_string(hide_password=False), autocommit=True
    ) as admin:
        admin.execute("CREATE ROLE narrow LOGIN")
        with database.begin() as owner:
            owner.execute(text("GRANT SELECT (session_key) ON django_session TO narrow"))
        engine = create_engine(database.url.set(username="narrow"))
        with engine.connect() as connection:
            assert mismatch(connection, ACCESS["clear-sessions"]) == (
                "role narrow lacks DELETE ON django_session, SELECT (ctid, expire_date) ON"
                " django_session, UPDATE (expire_date) ON django_session: grant it as in"
                " docs/database-role.sql; nothing was touched"
            )
            with database.begin() as owner:
                owner.execute(text("GRANT SELECT (ctid, expire_date) ON django_session TO narrow"))
            check_schema(connection, ACCESS["clear-sessions"], writes=False)
            assert "role narrow lacks DELETE ON django_session, UPDATE (expire_date)" in mismatch(
                connection, ACCESS["clear-sessions"]
            )
        engine.dispose()
        with database.begin() as owner:
            owner.execute(text("DROP OWNED BY narrow"))
        admin.execute("DROP ROLE narrow")
