"""The guard: one run of a job at a time (SPEC 2.8).

It is a session-level advisory lock in the application's database, on a connection of its own. When
its holder dies, the connection closes and PostgreSQL releases the lock. It needs a direct
connection or a pooler in session mode; a pooler in transaction mode does not keep the lock.
"""

import logging
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from zlib import crc32

from psycopg import Connection as DriverConnection
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.pool import NullPool

from maintenance.database import MAX_NAME_BYTES, configure, session_parameters
from maintenance.errors import GuardLost
from maintenance.settings import Settings
from maintenance.transient import translate

LOCK_SPACE = 0x56424D54
"""First half of the lock's key ("VBMT"); the second half is the CRC-32 of the job's name."""

HOLDER = text(
    "SELECT a.pid, a.application_name, a.backend_start FROM pg_locks l"
    " JOIN pg_stat_activity a USING (pid)"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND l.classid = :space AND l.objid = :key"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """The run that holds a job's guard."""

    pid: int
    run_id: uuid.UUID | None
    since: datetime | None

    def __str__(self) -> str:
        """Return the run's name as an operator finds it in Prefect."""
        run = f"flow run {self.run_id}" if self.run_id else "another run"
        since = f" since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        return f"{run} holds the job (database session {self.pid}{since})"


@dataclass
class Guard:
    """A job's guard: acquired by this run, or held by another one (`holder`)."""

    job: str
    connection: Connection
    holder: Holder | None = None
    pid: int = 0
    """The server's process of `connection`."""

    @property
    def acquired(self) -> bool:
        """Whether this run may act."""
        return self.holder is None

    def check(self) -> None:
        """Check that this run still holds the lock.

        Raises:
            GuardLost: its connection is gone, so another run may have acquired it.
        """
        try:
            self.connection.execute(text("SELECT 1"))
        except DBAPIError as error:
            message = f"the connection that guards {self.job} is lost: {translate(error)}"
            raise GuardLost(message) from None
        except PendingRollbackError:
            message = f"the connection that guards {self.job} was lost before"
            raise GuardLost(message) from None


_guards: dict[str, Guard] = {}
"""The guards that this process holds, by job."""


def check_held(job: str) -> None:
    """Check the guard that this process holds of a job, if any.

    Raises:
        GuardLost: its connection is gone.
    """
    if job in _guards:
        _guards[job].check()


@contextmanager
def guard(settings: Settings, job: str, run_id: uuid.UUID | None) -> Iterator[Guard]:
    """Try to acquire the job's lock, without waiting, for the duration of the block.

    The connection's application_name is `<job>/<flow run id>`, so that a run that is refused can
    report which run holds the job.
    """
    name = f"{job}/{(run_id or uuid.UUID(int=0)).hex}"
    if len(name) > MAX_NAME_BYTES:
        message = f"the name of job {job} is too long for the guard"
        raise ValueError(message)
    engine = create_engine(
        settings.url,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        connect_args={
            "connect_timeout": max(2, round(settings.connect_timeout_seconds)),
            "application_name": name,
        },
    )
    parameters = session_parameters(settings) | {"idle_session_timeout": "0"}

    @event.listens_for(engine, "connect")
    def _configure(connection: DriverConnection, _record: object) -> None:
        configure(connection, parameters)

    try:
        connection = engine.connect()
    except DBAPIError as error:
        raise translate(error) from None
    found: Guard | None = None
    try:
        found = _acquire(connection, job)
        if found.acquired:
            _guards[job] = found
        yield found
    finally:
        if found is not None and found.acquired:
            del _guards[job]
        try:
            connection.close()
        except DBAPIError as error:
            logger.warning("guard of %s: %s", job, translate(error))


def _acquire(connection: Connection, job: str) -> Guard:
    # The key's halves are signed in the function's parameters and unsigned in pg_locks.
    key = crc32(job.encode())
    signed = key - 2**32 if key >= 2**31 else key
    try:
        taken, pid = connection.execute(
            text("SELECT pg_try_advisory_lock(:space, :key), pg_backend_pid()"),
            {"space": LOCK_SPACE, "key": signed},
        ).one()
        if taken:
            return Guard(job, connection, pid=pid)
        row = connection.execute(HOLDER, {"space": LOCK_SPACE, "key": key}).first()
    except DBAPIError as error:
        raise translate(error) from None
    if row is None:
        return Guard(job, connection, Holder(0, None, None))
    return Guard(job, connection, Holder(row.pid, _run_id(row.application_name), row.backend_start))


def _run_id(application_name: str) -> uuid.UUID | None:
    match = re.search(r"/([0-9a-f]{32})$", application_name or "")
    found = uuid.UUID(match.group(1)) if match else None
    return found if found and found.int else None
