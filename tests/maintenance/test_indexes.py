import pytest
from sqlalchemy import Engine, text

from maintenance.expiring import CALLBACK_RECEIPTS, EXPIRING, SESSIONS, ExpiringTable
from maintenance.indexes import missing_indexes

TIME_INDEX = "django_session_expire_date_a5c62663"


def findings(engine: Engine, expiring: ExpiringTable, *changes: str) -> list[str]:
    with engine.begin() as connection:
        for change in changes:
            connection.execute(text(change))
        return missing_indexes(connection, expiring)


@pytest.mark.parametrize("expiring", EXPIRING, ids=lambda one: one.table.name)
def test_a_migrated_validibot_lacks_nothing(database: Engine, expiring: ExpiringTable) -> None:
    assert findings(database, expiring) == []


@pytest.mark.parametrize(
    "instead",
    [
        "SELECT 1",
        "CREATE INDEX part ON django_session (expire_date) WHERE expire_date > '2026-01-01'",
        "CREATE INDEX second_place ON django_session (session_key, expire_date)",
        "CREATE INDEX no_order ON django_session USING hash (expire_date)",
    ],
)
def test_a_missing_index_is_found_with_the_statement_that_creates_it(
    database: Engine, instead: str
) -> None:
    (finding,) = findings(database, SESSIONS, f"DROP INDEX {TIME_INDEX}", instead)
    statement = finding.partition(": ")[2]
    assert statement == "CREATE INDEX CONCURRENTLY ON django_session (expire_date)"
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    assert findings(database, SESSIONS) == []


def test_an_index_that_begins_with_the_time_will_do(database: Engine) -> None:
    other = "CREATE INDEX other ON django_session (expire_date, session_key)"
    assert findings(database, SESSIONS, f"DROP INDEX {TIME_INDEX}", other) == []


def test_a_foreign_key_without_an_index_is_found_with_the_statement_that_creates_it(
    database: Engine,
) -> None:
    (finding,) = findings(
        database,
        CALLBACK_RECEIPTS,
        'CREATE TABLE notes ("the Receipt" uuid REFERENCES validations_callbackreceipt (id))',
    )
    statement = finding.partition(": ")[2]
    assert statement == 'CREATE INDEX CONCURRENTLY ON notes ("the Receipt")'
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    assert findings(database, CALLBACK_RECEIPTS) == []


def test_a_foreign_key_of_several_columns_is_served_by_them_in_any_order(
    database: Engine,
) -> None:
    key = "ALTER TABLE django_session ADD UNIQUE (session_key, expire_date)"
    reference = (
        "CREATE TABLE notes (a text, b varchar(40), c timestamptz,"
        " FOREIGN KEY (b, c) REFERENCES django_session (session_key, expire_date))"
    )
    (finding,) = findings(database, SESSIONS, key, reference)
    assert finding.endswith("CREATE INDEX CONCURRENTLY ON notes (b, c)")
    assert findings(database, SESSIONS, "CREATE INDEX ON notes (a, b, c)") != []
    assert findings(database, SESSIONS, "CREATE INDEX ON notes (c, b, a)") == []
