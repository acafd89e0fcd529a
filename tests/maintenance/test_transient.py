"""Errors of statements, produced by the real server one by one."""

import threading
import traceback
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from maintenance.database import engine_for, transaction
from maintenance.errors import (
    DatabaseError,
    LockTimeout,
    ParameterError,
    RowRefused,
    SettingsError,
    StatementTimeout,
    StorageError,
    TransientDatabaseError,
)
from maintenance.settings import Settings
from maintenance.transient import is_transient

SECRET = "top secret"

SETUP = f"""
    CREATE TABLE things (
        id integer PRIMARY KEY, name varchar(20) CHECK (name <> ''), content text NOT NULL
    );
    CREATE TABLE parts (
        id integer, thing_id integer REFERENCES things DEFERRABLE INITIALLY DEFERRED
    );
    INSERT INTO things VALUES (1, 'a', '{SECRET}'), (2, 'b', '{SECRET}');
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'parts are\nread only'; END $$;
    CREATE TRIGGER refuse BEFORE DELETE ON things FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.fixture
def engine(environment: Settings, database: Engine) -> Engine:
    with database.begin() as connection:
        connection.execute(text(SETUP))
    return engine_for(environment, "clear-sessions")


def failure(engine: Engine, work: Callable[[Connection], object]) -> DatabaseError:
    """The error that a transaction ends in; the driver's own is judged the same way."""
    with pytest.raises(DatabaseError) as caught, transaction(engine) as connection:
        work(connection)
    raw = caught.value.__context__
    assert isinstance(raw, DBAPIError)
    assert is_transient(raw) == is_transient(caught.value)
    return caught.value


def execute(*statements: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        for statement in statements:
            connection.execute(text(statement))

    return work


def pid_of(connection: Connection) -> int:
    found: int = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return found


def wait_until(connection: Connection, condition: str, pid: int) -> None:
    """Ask until a condition on another session's activity holds."""
    query = f"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = :pid AND {condition})"
    while not connection.execute(text(query), {"pid": pid}).scalar_one():
        connection.rollback()  # The view is read once a transaction.


def test_a_lock_timeout_is_transient_and_has_its_own_class(
    engine: Engine, database: Engine
) -> None:
    with database.begin() as other:
        other.execute(text("SELECT FROM things WHERE id = 1 FOR UPDATE"))
        error = failure(
            engine,
            execute(
                "SET LOCAL lock_timeout = '1ms'",
                "UPDATE things SET content = 'x' WHERE id = 1",
            ),
        )
    assert type(error) is LockTimeout
    assert is_transient(error)
    assert str(error) == "LockNotAvailable: canceling statement due to lock timeout"


def test_a_lock_that_is_not_waited_for_is_a_lock_timeout_too(
    engine: Engine, database: Engine
) -> None:
    with database.begin() as other:
        other.execute(text("SELECT FROM things WHERE id = 1 FOR UPDATE"))
        error = failure(engine, execute("SELECT FROM things WHERE id = 1 FOR UPDATE NOWAIT"))
    assert type(error) is LockTimeout


def test_a_statement_timeout_is_transient(engine: Engine) -> None:
    error = failure(engine, execute("SET LOCAL statement_timeout = '1ms'", "SELECT pg_sleep(60)"))
    assert type(error) is StatementTimeout
    assert is_transient(error)
    assert str(error) == "QueryCanceled: canceling statement due to statement timeout"


def test_a_deadlock_is_transient(engine: Engine, database: Engine) -> None:
    with database.connect() as other, database.connect() as watcher:
        other.execute(text("SET LOCAL deadlock_timeout = '60s'"))
        other.execute(text("SELECT FROM things WHERE id = 2 FOR UPDATE"))
        pid = pid_of(other)
        crossing = threading.Thread(
            target=other.execute, args=(text("SELECT FROM things WHERE id = 1 FOR UPDATE"),)
        )

        def cross(connection: Connection) -> None:
            execute(
                "SET LOCAL deadlock_timeout = '1ms'", "SELECT FROM things WHERE id = 1 FOR UPDATE"
            )(connection)
            crossing.start()
            wait_until(watcher, "wait_event_type = 'Lock'", pid)
            connection.execute(text("SELECT FROM things WHERE id = 2 FOR UPDATE"))

        error = failure(engine, cross)
        crossing.join()
    assert type(error) is TransientDatabaseError
    assert str(error) == "DeadlockDetected: deadlock detected"


def test_a_serialization_failure_is_transient(engine: Engine, database: Engine) -> None:
    def collide(connection: Connection) -> None:
        execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT FROM things")(connection)
        with database.begin() as other:
            other.execute(text("UPDATE things SET content = 'y' WHERE id = 1"))
        connection.execute(text("UPDATE things SET content = 'z' WHERE id = 1"))

    error = failure(engine, collide)
    assert type(error) is TransientDatabaseError
    assert str(error).startswith("SerializationFailure: could not serialize access")


def test_a_terminated_backend_is_transient_and_the_engine_recovers(
    engine: Engine, database: Engine
) -> None:
    def lose(connection: Connection) -> None:
        pid = pid_of(connection)
        with database.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
        connection.execute(text("SELECT 1"))

    error = failure(engine, lose)
    assert type(error) is TransientDatabaseError
    assert "terminating connection due to administrator command" in str(error)
    with transaction(engine) as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1


def test_10_8_a_plan_whose_result_type_has_changed_is_transient(
    engine: Engine, database: Engine
) -> None:
    with transaction(engine) as connection:  # of a session that the pool keeps
        connection.execute(text("PREPARE stale AS SELECT * FROM things"))
    with database.begin() as application:
        application.execute(text("ALTER TABLE things ALTER name TYPE text"))
    error = failure(engine, execute("EXECUTE stale"))
    assert type(error) is TransientDatabaseError
    assert str(error) == "FeatureNotSupported: cached plan must not change result type"


def test_an_idle_timeout_in_a_transaction_is_transient(engine: Engine, database: Engine) -> None:
    def idle(connection: Connection) -> None:
        pid = pid_of(connection)
        with database.connect() as watcher:
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '1ms'"))
            gone = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
            while watcher.execute(gone, {"pid": pid}).scalar_one():
                watcher.rollback()
        connection.execute(text("SELECT 1"))

    error = failure(engine, idle)
    assert type(error) is TransientDatabaseError
    assert is_transient(error)


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        (f"INSERT INTO things VALUES (1, 'c', '{SECRET}')", "UniqueViolation"),
        (f"INSERT INTO things VALUES (3, '', '{SECRET}')", "CheckViolation"),
        ("UPDATE things SET content = NULL WHERE id = 1", "NotNullViolation"),
        ("INSERT INTO parts VALUES (1, 99)", "ForeignKeyViolation"),
        (f"UPDATE things SET name = content || '{SECRET * 9}'", "StringDataRightTruncation"),
        ("SELECT content::integer FROM things", "InvalidTextRepresentation"),
        ("""SELECT ('a" ' || content)::uuid FROM things""", "InvalidTextRepresentation"),
        ("SELECT 1 / (id - id) FROM things", "DivisionByZero"),
    ],
)
def test_a_value_that_is_refused_is_the_rows_fault_and_is_not_quoted(
    engine: Engine, statement: str, name: str
) -> None:
    error = failure(engine, execute(statement))
    assert type(error) is RowRefused
    assert not is_transient(error)
    assert str(error).startswith(f"{name}: ")
    shown = "".join(traceback.format_exception(error))
    assert SECRET not in shown
    assert "Failing row" not in shown
    assert "DBAPIError" not in shown


def test_the_driver_would_have_shown_the_row(database: Engine, engine: Engine) -> None:
    """What the test above guards against: without the translation, the row is in the text."""
    statement = f"INSERT INTO things SELECT 3, '', '{SECRET}'"
    with pytest.raises(DBAPIError) as caught, database.begin() as connection:
        connection.execute(text(statement))
    assert f"Failing row contains (3, , {SECRET})" in str(caught.value)


def test_an_exception_raised_in_a_trigger_is_the_rows_fault_in_one_line(engine: Engine) -> None:
    error = failure(engine, execute("DELETE FROM things WHERE id = 1"))
    assert type(error) is RowRefused
    assert str(error) == "RaiseException: parts are read only"


RAISING = "CREATE FUNCTION pg_temp.fail() RETURNS void LANGUAGE plpgsql AS $$ BEGIN {}; END $$"


@pytest.mark.parametrize(
    "state", ["ZZ001", "XX999", "55000", "42501", "0A000", "08006", "53300", "40001", "55P03"]
)
def test_whatever_state_a_function_raises_is_the_rows_fault(engine: Engine, state: str) -> None:
    raising = RAISING.format(f"RAISE EXCEPTION 'not this one' USING ERRCODE = '{state}'")
    error = failure(engine, execute(raising, "SELECT pg_temp.fail()"))
    assert type(error) is RowRefused
    assert str(error).endswith(": not this one")


@pytest.mark.parametrize("does", ["PERFORM FROM nowhere", "EXECUTE 'VACUUM'"])
def test_what_a_function_is_refused_is_the_rows_fault(engine: Engine, does: str) -> None:
    error = failure(engine, execute(RAISING.format(does), "SELECT pg_temp.fail()"))
    assert type(error) is RowRefused


def test_a_row_that_is_too_large_for_an_index_is_the_rows_fault(engine: Engine) -> None:
    statements = (
        "CREATE TABLE public.wide (key text UNIQUE)",
        "INSERT INTO wide SELECT string_agg(md5(n::text), '') FROM generate_series(1, 999) AS n",
    )
    error = failure(engine, execute(*statements))
    assert type(error) is RowRefused
    assert str(error).startswith("ProgramLimitExceeded: ")


@pytest.mark.parametrize(
    ("statement", "cause"),
    [
        ("SELECT * FROM nowhere", 'UndefinedTable: relation "nowhere" does not exist'),
        ("SELECT nothing FROM things", 'UndefinedColumn: column "nothing" does not exist'),
        ("SELEKT 1", 'SyntaxError: syntax error at or near "SELEKT"'),
        (
            "SET TRANSACTION READ ONLY; DELETE FROM parts",
            "ReadOnlySqlTransaction: cannot execute DELETE in a read-only transaction",
        ),
        (
            "CREATE ROLE nobody; SET LOCAL ROLE nobody; SELECT * FROM things",
            "InsufficientPrivilege: permission denied for table things",
        ),
    ],
)
def test_a_wrong_statement_fails_at_once(engine: Engine, statement: str, cause: str) -> None:
    error = failure(engine, execute(*statement.split("; ")))
    assert type(error) is DatabaseError
    assert not is_transient(error)
    assert str(error) == cause


def test_a_value_that_the_driver_refuses_fails_at_once_and_is_not_quoted(engine: Engine) -> None:
    error = failure(
        engine, lambda connection: connection.execute(text("SELECT :x"), {"x": f"{SECRET}\0"})
    )
    assert type(error) is DatabaseError
    assert SECRET not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "error", [ConnectionResetError("gone"), ConnectionRefusedError("no"), TimeoutError("late")]
)
def test_lost_connections_and_timeouts_outside_the_database_are_transient(error: OSError) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        OSError(28, "No space left on device"),
        ParameterError("x"),
        SettingsError("x"),
        StorageError("x"),
        RowRefused("x"),
        DatabaseError("x"),
    ],
)
def test_everything_else_fails_at_once(error: Exception) -> None:
    assert not is_transient(error)
