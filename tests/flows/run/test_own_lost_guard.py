"""A run waits for its own lost connection to end, instead of giving way to it (SPEC 10.9)."""

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from zlib import crc32

import psycopg
import pytest
from sqlalchemy import Engine

from demo.processes import wait_until
from flows.run.perform import perform
from flows.run.run import Run
from maintenance.budget import Budget
from maintenance.cutoff import Cutoff
from maintenance.errors import GuardLost
from maintenance.guard import LOCK_SPACE
from maintenance.report import StopReason
from maintenance.settings import Settings
from tests.support.runs import offline
from tests.support.validibot import NOW

JOB = "clear-sessions"
KEY = crc32(JOB.encode())
SIGNED = KEY - 2**32 if KEY >= 2**31 else KEY


@pytest.fixture
def other(database: Engine) -> Iterator[psycopg.Connection]:
    """A session that is named as that of the run's guard is."""
    url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    name = f"{JOB}/{0:032x}"
    with closing(psycopg.connect(url, autocommit=True, application_name=name)) as connection:
        yield connection


@pytest.mark.parametrize("ours", [True, False], ids=["its own session", "another one"])
def test_10_9_a_lost_session_that_still_holds_the_job_is_told_from_another_run(
    environment: Settings, database: Engine, other: psycopg.Connection, ours: bool
) -> None:
    """As after a lost network: the server has not noticed yet that the client is gone."""
    run = Run(JOB, Cutoff(NOW, NOW), None, Budget(timedelta(minutes=1).total_seconds()))
    called: list[int] = []
    locked = threading.Event()

    def take_over() -> None:
        other.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_SPACE, SIGNED))
        locked.set()
        if ours:
            threading.Timer(1.0, other.close).start()

    def steps(run: Run) -> None:
        called.append(1)
        if len(called) > 1:
            return
        assert run.guard is not None
        waiting = threading.Thread(target=take_over, daemon=True)
        waiting.start()
        wait_until(lambda: _waits(database, other), 20, "the other session to wait", [])
        if ours:
            run.guard.pid = other.info.backend_pid
        raise GuardLost("the connection is lost")

    with offline():
        perform(run, preview=steps, work=steps, backoff=[0.5, 0.7, 2.0])
    assert locked.is_set()
    if ours:
        assert (len(called), run.report.stopped_because) == (2, StopReason.DRAINED)
    else:
        assert (len(called), run.report.stopped_because) == (1, StopReason.SKIPPED)


def _waits(database: Engine, session: psycopg.Connection) -> bool:
    query = "SELECT FROM pg_locks WHERE pid = %s AND locktype = 'advisory' AND NOT granted"
    with database.connect() as connection:
        found = connection.exec_driver_sql(query, (session.info.backend_pid,))
        return found.first() is not None
