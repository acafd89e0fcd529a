"""The transactions of each job that are at work in this process, so that they can be stopped.

When a run loses its guard, another run may start at once. Then every statement of the run is
cancelled, and no transaction of its job begins until it has taken the guard again.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import Connection as DriverConnection

from maintenance.errors import GuardLost

CANCEL_SECONDS = 0.5

_lock = threading.Lock()
_at_work: dict[str, set[DriverConnection]] = {}
_stopped: dict[str, str] = {}


@contextmanager
def at_work(job: str, connection: DriverConnection) -> Iterator[None]:
    """Register a transaction for as long as the block lasts.

    Raises:
        GuardLost: the job was stopped.
    """
    with _lock:
        _at_work.setdefault(job, set()).add(connection)
    try:
        check_stopped(job)
        yield
    finally:
        with _lock:
            _at_work[job].discard(connection)


def check_stopped(job: str) -> None:
    """Make sure that a job may work.

    Raises:
        GuardLost: it was stopped.
    """
    reason = _stopped.get(job)
    if reason is not None:
        raise GuardLost(reason)


def stop(job: str, reason: str) -> None:
    """Let no transaction of a job begin, and cancel the statements of those at work."""
    _stopped[job] = reason
    with _lock:
        connections = list(_at_work.get(job, ()))
    for connection in connections:
        with suppress(psycopg.Error):  # its server is gone, and with it the statement
            connection.cancel_safe(timeout=CANCEL_SECONDS)


def resume(job: str) -> None:
    """Let transactions of a job begin again."""
    _stopped.pop(job, None)
