from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, Engine, text

from demo.embedded import EmbeddedServer
from maintenance.database import (
    configure,
    database_clock,
    dispose_engines,
    engine_for,
    session_parameters,
    transaction,
)
from maintenance.errors import DatabaseError, RowRefused
from maintenance.settings import Settings, load_settings

JOB = "purge-expired-submissions"

EXPECTED = {
    "application_name": "validibot-maintenance purge-expired-submissions",
    "client_connection_check_interval": "2s",
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": "1min",
    "lock_timeout": "500ms",
    "statement_timeout": "30s",
    "tcp_keepalives_count": "3",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "TimeZone": "UTC",
    "transaction_isolation": "read committed",
}
ON_TCP_ONLY = {name for name in EXPECTED if name.startswith("tcp_")}

CONTRARY = {
    "application_name": "other",
    "client_connection_check_interval": "0",
    "default_transaction_isolation": "serializable",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": "0",
    "statement_timeout": "0",
    "TimeZone": "America/New_York",
}


def shown(engine: Engine) -> dict[str, str]:
    """The parameters of a job's session; a socket has no TCP keepalives."""
    with transaction(engine) as connection:
        return {
            name: connection.execute(text(f"SHOW {name}")).scalar_one()
            for name in EXPECTED.keys() - ON_TCP_ONLY
        }


@pytest.fixture
def engine(environment: Settings, database: Engine) -> Engine:
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE things (id integer UNIQUE DEFERRABLE)"))
    return engine_for(environment, JOB)


@pytest.fixture
def contrary(server: EmbeddedServer, environment: Settings) -> Iterator[Settings]:
    """Settings of a role whose defaults are the opposite of what jobs need."""
    with psycopg.connect(
        server.url("postgres").render_as_string(hide_password=False), autocommit=True
    ) as admin:
        admin.execute("CREATE ROLE contrary LOGIN")
        for name, value in CONTRARY.items():
            admin.execute(
                sql.SQL("ALTER ROLE contrary SET {} = {}").format(
                    sql.Identifier(name), sql.Literal(value)
                )
            )
        url = environment.url.set(drivername="postgresql", username="contrary")
        yield load_settings(DATABASE_URL=url.render_as_string(hide_password=False))
        dispose_engines()
        admin.execute("DROP ROLE contrary")


def test_every_connection_is_named_and_bounded(engine: Engine) -> None:
    assert shown(engine) == {k: v for k, v in EXPECTED.items() if k not in ON_TCP_ONLY}


def test_the_defaults_of_the_role_do_not_matter(contrary: Settings) -> None:
    assert shown(engine_for(contrary, JOB)) == {
        name: value for name, value in EXPECTED.items() if name not in ON_TCP_ONLY
    }


def test_the_role_alone_would_have_had_other_values(contrary: Settings) -> None:
    url = contrary.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        found = {name: connection.execute(f"SHOW {name}".encode()).fetchone() for name in CONTRARY}
    assert found == {name: (value,) for name, value in CONTRARY.items()}


def test_the_server_knows_every_parameter_by_its_name(
    environment: Settings, database: Engine
) -> None:
    """A misspelled one would be skipped silently, as those are that an older server lacks."""
    with database.connect() as connection:
        known = set(connection.execute(text("SELECT name FROM pg_settings")).scalars())
    assert set(session_parameters(environment)) <= known


def test_parameters_that_the_server_does_not_know_are_skipped(database: Engine) -> None:
    with database.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        configure(driver, {"no_such_parameter": "1", "lock_timeout": "77"})
        assert connection.execute(text("SHOW lock_timeout")).scalar_one() == "77ms"


def test_timeouts_follow_the_settings(environment: Settings) -> None:
    url = environment.url.set(drivername="postgresql").render_as_string(hide_password=False)
    changed = load_settings(
        DATABASE_URL=url,
        MAINTENANCE_LOCK_TIMEOUT_SECONDS=0.25,
        MAINTENANCE_STATEMENT_TIMEOUT_SECONDS=7,
        MAINTENANCE_IDLE_IN_TRANSACTION_TIMEOUT_SECONDS=9,
    )
    found = shown(engine_for(changed, JOB))
    assert found["lock_timeout"] == "250ms"
    assert found["statement_timeout"] == "7s"
    assert found["idle_in_transaction_session_timeout"] == "9s"


def test_a_timeout_is_never_rounded_to_none(environment: Settings) -> None:
    url = environment.url.set(drivername="postgresql").render_as_string(hide_password=False)
    tiny = load_settings(DATABASE_URL=url, MAINTENANCE_IDLE_IN_TRANSACTION_TIMEOUT_SECONDS=0.0001)
    assert session_parameters(tiny)["idle_in_transaction_session_timeout"] == "1"


def test_an_engine_is_made_once_for_a_job(environment: Settings) -> None:
    assert engine_for(environment, JOB) is engine_for(environment, JOB)
    assert engine_for(environment, JOB) is not engine_for(environment, "clear-sessions")


def test_disposed_engines_leave_no_session_behind(engine: Engine, database: Engine) -> None:
    sessions = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name")
    name = {"name": EXPECTED["application_name"]}
    with transaction(engine):
        pass
    with database.connect() as watcher:
        assert watcher.execute(sessions, name).scalar_one() == 1
        dispose_engines()
        while watcher.execute(sessions, name).scalar_one():
            watcher.rollback()  # The view is read once a transaction. Ends by the test's time-out.


def things(database: Engine) -> set[int]:
    with database.connect() as connection:
        return set(connection.execute(text("SELECT id FROM things")).scalars())


def test_a_transaction_is_committed_at_the_end(engine: Engine, database: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(text("INSERT INTO things VALUES (1), (2)"))
        assert things(database) == set()
    assert things(database) == {1, 2}


def insert_and(engine: Engine, *values: int, then: Callable[[Connection], object]) -> None:
    with transaction(engine) as connection:
        for value in values:
            connection.execute(text("INSERT INTO things VALUES (:value)"), {"value": value})
        then(connection)


def interrupt(_connection: Connection) -> None:
    raise KeyboardInterrupt


def test_a_transaction_is_rolled_back_by_any_error(engine: Engine, database: Engine) -> None:
    with pytest.raises(ZeroDivisionError):
        insert_and(engine, 1, then=lambda _: 1 // 0)
    with pytest.raises(KeyboardInterrupt):
        insert_and(engine, 2, then=interrupt)
    with pytest.raises(DatabaseError):
        insert_and(engine, 3, then=lambda connection: connection.execute(text("SELECT nothing")))
    assert things(database) == set()


def test_an_error_at_the_commit_is_translated_too(engine: Engine, database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE things ADD UNIQUE (id) DEFERRABLE INITIALLY DEFERRED"))
        connection.execute(text("ALTER TABLE things DROP CONSTRAINT things_id_key"))
    reached: list[Connection] = []
    with pytest.raises(RowRefused):
        insert_and(engine, 1, 1, then=reached.append)
    assert len(reached) == 1
    assert things(database) == set()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO things VALUES (1)",
        "UPDATE things SET id = 2",
        "DELETE FROM things",
        "SELECT * FROM things FOR UPDATE",
        "CREATE TABLE more (id integer)",
    ],
)
def test_a_read_only_transaction_refuses_to_write(engine: Engine, statement: str) -> None:
    with (
        pytest.raises(DatabaseError, match="in a read-only transaction") as caught,
        transaction(engine, read_only=True) as connection,
    ):
        connection.execute(text(statement))
    assert type(caught.value) is DatabaseError


def test_read_only_ends_with_its_transaction(engine: Engine, database: Engine) -> None:
    with transaction(engine, read_only=True) as connection:
        assert connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on"
    with transaction(engine) as connection:
        connection.execute(text("INSERT INTO things VALUES (1)"))
    assert things(database) == {1}


def test_the_databases_clock_has_a_zone_and_moves_within_a_transaction(
    contrary: Settings, database: Engine
) -> None:
    with transaction(engine_for(contrary, JOB), read_only=True) as connection:
        first = database_clock(connection)
        second = database_clock(connection)
    assert first.utcoffset() == timedelta(0)
    assert first < second
    assert abs(datetime.now(UTC) - first) < timedelta(minutes=1)
