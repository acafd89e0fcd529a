"""Connections to Validibot's database: with time-outs, a name, and errors without row contents."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from psycopg import Connection as DriverConnection
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from maintenance.settings import Settings
from maintenance.transient import translate

APPLICATION = "validibot-maintenance"
MAX_NAME_BYTES = 63
"""PostgreSQL truncates application_name to this many bytes."""


_engines: dict[tuple[Settings, str], Engine] = {}


def engine_for(settings: Settings, job: str) -> Engine:
    """Return this process's engine for a job, created at the first call.

    Every connection is named after the job and has lock, statement and idle time-outs (SPEC 2.4).
    READ COMMITTED is set explicitly, because the re-check after a claim must see what was committed
    in the meantime, whatever the role's default is.
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
        connect_args={
            "connect_timeout": max(2, round(settings.connect_timeout_seconds)),
            "application_name": f"{APPLICATION} {job}"[:MAX_NAME_BYTES],
        },
    )
    session = session_parameters(settings)

    @event.listens_for(engine, "connect")
    def _configure(connection: DriverConnection, _record: object) -> None:
        configure(connection, session)

    return _engines.setdefault((settings, job), engine)


def dispose_engines() -> None:
    """Close the connections of every engine of this process, and forget the engines."""
    while _engines:
        _engines.popitem()[1].dispose()


def session_parameters(settings: Settings) -> dict[str, str]:
    """Return the server parameters that every connection gets; times in milliseconds.

    Their names are spelled as in pg_settings, where `configure` looks them up.
    """
    return {
        "lock_timeout": milliseconds(settings.lock_timeout_seconds),
        "statement_timeout": milliseconds(settings.statement_timeout_seconds),
        "idle_in_transaction_session_timeout": milliseconds(settings.idle_timeout_seconds),
        # A backend whose client was killed ends within seconds and releases its locks.
        "client_connection_check_interval": "2000",
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
        "default_transaction_isolation": "read committed",
        # Adding days to a time follows daylight saving time; UTC has none.
        "TimeZone": "UTC",
    }


def configure(connection: DriverConnection, parameters: dict[str, str]) -> None:
    """Set server parameters on a new connection, skipping those that the server does not know."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config(p.name, p.value, false)"
            " FROM unnest(%s::text[], %s::text[]) AS p(name, value)"
            " JOIN pg_settings USING (name)",
            (list(parameters), list(parameters.values())),
        )
    connection.commit()


@contextmanager
def transaction(engine: Engine, *, read_only: bool = False) -> Iterator[Connection]:
    """Run one transaction: committed at the end, rolled back on any error.

    Raises:
        DatabaseError: a statement failed. It replaces the driver's error, which may quote row
            contents.
    """
    try:
        with engine.connect() as connection, connection.begin():
            if read_only:
                connection.execute(text("SET TRANSACTION READ ONLY"))
            yield connection
    except DBAPIError as error:
        raise translate(error) from None


def database_clock(connection: Connection) -> datetime:
    """Return the database's time, the only source of cutoffs (SPEC 2.1)."""
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def milliseconds(seconds: float) -> str:
    """Return a time-out in milliseconds as text; at least 1, because 0 would disable it."""
    return str(max(1, round(seconds * 1000)))
