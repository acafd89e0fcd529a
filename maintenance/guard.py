"""The guard: one run of a job at a time (SPEC 2.8).

The guard is a session-level advisory lock in the application's database, on a connection of its
own. It dies with its holder: a killed run's connection closes and the lock is free. It needs a
direct connection or a pooler in session mode; any other pooler is refused (SPEC 10.6).

A thread asks the guard's connection twice a second. When it is lost, another run may start at once,
so all statements of the job are cancelled, and its transactions end with `GuardLost`.
"""

import logging
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from zlib import crc32

import psycopg
from psycopg import Connection as DriverConnection
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from maintenance import running
from maintenance.database import (
    MAX_NAME_BYTES,
    configure,
    connect_arguments,
    driver_of,
    session_parameters,
)
from maintenance.errors import DatabaseError, GuardLost
from maintenance.pooler import backend_pid, refuse_shared_session
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

_held: dict[str, "Guard"] = {}

STANDBY = "the database is a standby, where nothing can be written: name the primary"

CHECK_SECONDS = 0.5
"""Between two questions whether the guard is still held."""


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
    """The state of a job's lock: ours, or held by another run."""

    job: str
    connection: Connection
    holder: Holder | None = None
    pid: int = 0
    """The server process that holds the lock for us."""
    _lost: str | None = None
    _checked: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def acquired(self) -> bool:
        """Whether this run may act."""
        return self.holder is None

    def check(self, max_age: float = 0.0) -> None:
        """Make sure that the lock is still ours; can be called by any thread.

        Args:
            max_age: seconds for which an earlier answer is good enough.

        Raises:
            GuardLost: its connection is gone, so another run may have acquired it.
        """
        with self._lock:
            if self._lost is None and time.monotonic() - self._checked >= max_age:
                self._ask()
        if self._lost is not None:
            raise GuardLost(self._lost)

    def _ask(self) -> None:
        try:
            pid = backend_pid(driver_of(self.connection))
        except (psycopg.Error, DBAPIError) as error:
            self._lost = f"the connection that guards {self.job} is lost: {translate(error)}"
        else:
            self._checked = time.monotonic()
            if pid != self.pid:
                self._lost = (
                    f"the connection that guards {self.job} was given another database session by a"
                    " connection pooler: set DATABASE_URL to the server itself, or to a pool in"
                    " session mode"
                )


def check_held(job: str) -> None:
    """Make sure that this process has not lost the job's guard; it need not hold one.

    Any thread may call it, as often as it likes: the server is asked at most every half second.

    Raises:
        GuardLost: the guard is lost, so another run may have started.
    """
    held = _held.get(job)
    if held is not None:
        held.check(CHECK_SECONDS)


@contextmanager
def guard(settings: Settings, job: str, run_id: uuid.UUID | None) -> Iterator[Guard]:
    """Try to acquire the job's lock, without waiting, for the duration of the block.

    Its connection is named `<job>/<flow run id>`, so that a run that does not get the lock can say
    which run holds the job.

    Raises:
        SharedSession: a connection pooler is in between, and not in session mode.
        DatabaseError: the database did not answer.
    """
    name = f"{job}/{(run_id or uuid.UUID(int=0)).hex}"
    if len(name) > MAX_NAME_BYTES:
        message = f"the name of job {job} is too long for the guard"
        raise ValueError(message)
    engine = _engine(settings, name)
    try:
        connection = engine.connect()
    except DBAPIError as error:
        raise translate(error) from None
    try:
        found = _take(engine, connection, settings, job)
        if not found.acquired:
            yield found
            return
        with _watched(found):
            yield found
    finally:
        try:
            connection.close()
        except DBAPIError as error:
            logger.warning("guard of %s: %s", job, translate(error))


@contextmanager
def _watched(held: Guard) -> Iterator[None]:
    """Register a guard, and watch it in a thread."""
    running.resume(held.job)
    _held[held.job] = held
    ended = threading.Event()
    watch = threading.Thread(
        target=_watch, args=(held, ended), name=f"guard of {held.job}", daemon=True
    )
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()
        _held.pop(held.job, None)
        running.resume(held.job)


def _watch(held: Guard, ended: threading.Event) -> None:
    """Ask at intervals; once the guard is lost, cancel the job's statements again and again."""
    while not ended.wait(CHECK_SECONDS):
        try:
            held.check(CHECK_SECONDS / 2)
        except GuardLost as error:
            running.stop(held.job, str(error))


def check_session(settings: Settings, name: str) -> None:
    """Make sure that a guard could be held, without taking one.

    Raises:
        SharedSession: a connection pooler is in between, and not in session mode.
        DatabaseError: the database did not answer.
    """
    engine = _engine(settings, name)
    try:
        with engine.connect() as connection:
            _refuse_shared(engine, driver_of(connection))
    except (psycopg.Error, DBAPIError) as error:
        raise translate(error) from None


def _engine(settings: Settings, name: str) -> Engine:
    return create_engine(
        settings.url,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        connect_args=connect_arguments(settings, name),
    )


def _refuse_shared(engine: Engine, driver: DriverConnection) -> None:
    def another() -> DriverConnection:
        raw = engine.raw_connection()
        found = raw.driver_connection
        raw.detach()
        assert isinstance(found, DriverConnection)  # noqa: S101 - the only driver
        return found

    refuse_shared_session(driver, another)


def _take(engine: Engine, connection: Connection, settings: Settings, job: str) -> Guard:
    driver = driver_of(connection)
    try:
        # Before anything is set or locked: it would stay with a session of the pooler.
        _refuse_shared(engine, driver)
        configure(driver, session_parameters(settings) | {"idle_session_timeout": "0"})
        if connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one():
            raise DatabaseError(STANDBY)
        found = _acquire(connection, job)
        found.pid = backend_pid(driver)
    except (psycopg.Error, DBAPIError) as error:
        raise translate(error) from None
    return found


def _acquire(connection: Connection, job: str) -> Guard:
    # The key's halves are signed in the function's parameters and unsigned in pg_locks.
    key = crc32(job.encode())
    signed = key - 2**32 if key >= 2**31 else key
    taken = connection.execute(
        text("SELECT pg_try_advisory_lock(:space, :key)"),
        {"space": LOCK_SPACE, "key": signed},
    ).scalar_one()
    if taken:
        return Guard(job, connection)
    row = connection.execute(HOLDER, {"space": LOCK_SPACE, "key": key}).first()
    if row is None:
        return Guard(job, connection, Holder(0, None, None))
    return Guard(job, connection, Holder(row.pid, _run_id(row.application_name), row.backend_start))


def _run_id(application_name: str) -> uuid.UUID | None:
    match = re.search(r"/([0-9a-f]{32})$", application_name or "")
    found = uuid.UUID(match.group(1)) if match else None
    return found if found and found.int else None
