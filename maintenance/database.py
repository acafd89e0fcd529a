"""Connections to Validibot's database: always with time-outs, always named, errors made safe.

The jobs do not depend on the settings of the server, the database or the role (SPEC 10.8), and
leave no setting behind: behind a connection pooler each transaction sets its own with SET LOCAL, so
that none of them reaches another client (SPEC 10.6).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Literal

import psycopg
from psycopg import Connection as DriverConnection
from psycopg import IsolationLevel, sql
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from maintenance import running
from maintenance.odd_values import adapt
from maintenance.pooler import backend_pid
from maintenance.settings import Settings
from maintenance.transient import translate

APPLICATION = "validibot-maintenance"
MAX_NAME_BYTES = 63
"""PostgreSQL truncates application_name to this many bytes."""


SEARCH_PATH = "search_path"
SET_LOCAL = "set local"
ANY_BYTES = "SQL_ASCII"
JOB = "job"
"""The execution option of an engine that holds the job's name."""

_engines: dict[tuple[Settings, str], Engine] = {}


def engine_for(settings: Settings, job: str) -> Engine:
    """Return this process's engine for a job, created at the first call.

    Every connection is named after the job. Every transaction is READ COMMITTED: the re-check after
    a claim relies on seeing what was committed meanwhile. It has lock, statement and idle time-outs
    (SPEC 2.4).
    """
    known = _engines.get((settings, job))
    if known is not None:
        return known
    engine = create_engine(
        settings.url,
        pool_size=2,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args=connect_arguments(settings, f"{APPLICATION} {job}"[:MAX_NAME_BYTES]),
        execution_options={JOB: job},
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: DriverConnection, record: ConnectionPoolEntry) -> None:
        try:
            _prepare(connection, record, settings)
        except BaseException:
            connection.close()  # the pool does not know it yet
            raise

    @event.listens_for(engine, "begin")
    def _set_local(connection: Connection) -> None:
        statement = connection.connection.info.get(SET_LOCAL)
        if statement is not None:
            driver_of(connection).execute(statement)

    return _engines.setdefault((settings, job), engine)


def _prepare(connection: DriverConnection, record: ConnectionPoolEntry, settings: Settings) -> None:
    adapt(connection)
    connection.autocommit = True
    parameters = session_parameters(settings)
    if connection.info.parameter_status("server_encoding") == ANY_BYTES:
        # In any other encoding the server refuses to send what is no text in it.
        parameters["client_encoding"] = ANY_BYTES
    # A pooler makes up the process number of the start-up packet. Without one, the session is ours,
    # and is set once.
    if backend_pid(connection) == connection.pgconn.backend_pid:
        configure(connection, parameters)
    else:
        record.info[SET_LOCAL] = settings_statement(connection, parameters, "LOCAL")
    connection.autocommit = False
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    connection.read_only = False


def connect_arguments(settings: Settings, name: str) -> dict[str, object]:
    """Return the driver's arguments of a connection."""
    return {
        "connect_timeout": max(2, round(settings.connect_timeout_seconds)),
        "application_name": name,
        # Whatever the role or PGCLIENTENCODING say.
        "client_encoding": "UTF8",
        # A pooler may have another session for the next execution; a migration may come between.
        "prepare_threshold": None,
        **_session_kind(settings),
        # Half a minute without an answer to a packet ends the connection.
        "tcp_user_timeout": 30_000,
    }


def _session_kind(settings: Settings) -> dict[str, object]:
    """Return which kind of server to choose unless the address does, whatever the environment says.

    Of several hosts the primary is wanted. A single one is taken whatever it is: the guard says
    more clearly than the client library what is wrong with a standby.
    """
    if "target_session_attrs" in settings.url.query:
        return {}
    hosts = settings.url.query.get("host", "")
    several = isinstance(hosts, tuple) or "," in f"{hosts}{settings.url.host or ''}"
    return {"target_session_attrs": "primary" if several else "any"}


def dispose_engines() -> None:
    """Close the connections of every engine of this process, and forget the engines."""
    while _engines:
        _engines.popitem()[1].dispose()


def session_parameters(settings: Settings) -> dict[str, str]:
    """Return the server parameters of every transaction; times in milliseconds."""
    return {
        "lock_timeout": milliseconds(settings.lock_timeout_seconds),
        "statement_timeout": milliseconds(settings.statement_timeout_seconds),
        "idle_in_transaction_session_timeout": milliseconds(settings.idle_timeout_seconds),
        # Each batch is short; a budget for all of them is kept by the run.
        "transaction_timeout": "0",
        # A backend whose client was killed gives up within seconds, and with it its locks.
        "client_connection_check_interval": "2000",
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "off",
        # Adding days to a time follows the session's clock changes; in UTC there are none.
        "TimeZone": "UTC",
        "DateStyle": "ISO, MDY",
        "IntervalStyle": "postgres",
        "bytea_output": "hex",
        "extra_float_digits": "1",
        "standard_conforming_strings": "on",
        "transform_null_equals": "off",
        # Rows that a policy hides would look like rows that are not there: an error instead.
        "row_security": "off",
    }


def configure(connection: DriverConnection, parameters: dict[str, str]) -> None:
    """Set server parameters of a session that is ours alone, skipping unknown ones."""
    connection.execute(settings_statement(connection, parameters, "SESSION"))


def settings_statement(
    connection: DriverConnection, parameters: dict[str, str], scope: Literal["LOCAL", "SESSION"]
) -> sql.Composed:
    """Return the statements that set parameters, without those that the server does not know.

    Names in the system catalogue come first in the search path, whatever else is on it: nothing in
    another schema can stand in for a function of PostgreSQL. The rest of it leads to Validibot's
    tables, and stays.
    """
    # pg_settings would put all of its rows together, at every connection.
    rows = connection.execute(
        "SELECT name, setting FROM pg_catalog.unnest(%s::pg_catalog.text[]) AS name,"
        " pg_catalog.current_setting(name, true) AS setting WHERE setting IS NOT NULL",
        ([*parameters, SEARCH_PATH],),
    ).fetchall()
    known: dict[str, str] = dict(rows)
    values = {name: sql.Literal(value) for name, value in parameters.items() if name in known}
    path = ", ".join(filter(None, ("pg_catalog", known[SEARCH_PATH], "pg_temp")))
    return sql.SQL("; ").join(
        [
            sql.SQL("SET {} {} = {}").format(sql.SQL(scope), sql.Identifier(name), value)
            for name, value in values.items()
        ]
        + [
            sql.SQL("SET {} {} = {}").format(
                sql.SQL(scope), sql.Identifier(SEARCH_PATH), sql.SQL(path)
            )
        ]
    )


def driver_of(connection: Connection) -> DriverConnection:
    """Return the driver's connection, which threads may share."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, DriverConnection)  # noqa: S101 - the only driver
    return driver


@contextmanager
def transaction(engine: Engine, *, read_only: bool = False) -> Iterator[Connection]:
    """Run one transaction: committed at the end, rolled back on any error.

    Raises:
        DatabaseError: a statement failed; the driver's error, which may quote row contents, is
            replaced by one that does not.
        GuardLost: the run has lost its guard.
    """
    job = engine.get_execution_options().get(JOB, "")
    try:
        with engine.connect() as connection:
            connection.execution_options(postgresql_readonly=read_only)
            with running.at_work(job, driver_of(connection)), connection.begin():
                yield connection
    except (DBAPIError, psycopg.Error) as error:
        running.check_stopped(job)
        raise translate(error) from None


def database_clock(connection: Connection) -> datetime:
    """Return the database's time, the only source of cutoffs (SPEC 2.1)."""
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def milliseconds(seconds: float) -> str:
    """Return a time-out in milliseconds as text; at least 1, because 0 would disable it."""
    return str(max(1, round(seconds * 1000)))
