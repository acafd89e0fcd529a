"""A connection pooler in front of the database: session mode works, every other is refused."""

import uuid
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import URL

from flows.clear_sessions import clear_sessions
from maintenance.checks.database import database_check
from maintenance.checks.finding import Severity
from maintenance.database import dispose_engines, engine_for, transaction
from maintenance.errors import DatabaseError, SharedSession
from maintenance.guard import guard
from maintenance.settings import Settings, load_settings, settings
from tests.support.pgbouncer import pgbouncer
from tests.support.runs import run

JOB = "clear-sessions"
RUN = uuid.UUID(int=7)
SHARING: list[dict[str, object]] = [
    {},
    {"server_round_robin": 1},
    {"default_pool_size": 1},
    {"min_pool_size": 4},
    {"min_pool_size": 4, "server_round_robin": 1},
]

pytestmark = [pytest.mark.pgbouncer]


def behind(url: URL) -> Settings:
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return load_settings(DATABASE_URL=address)


def locks(database: Engine) -> int:
    with database.connect() as connection:
        statement = text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return int(connection.execute(statement).scalar_one())


@pytest.mark.parametrize("options", SHARING, ids=str)
def test_10_6_transaction_mode_is_refused_and_no_lock_stays(
    environment: Settings, database: Engine, options: dict[str, object]
) -> None:
    with pgbouncer(environment.url, "transaction", **options) as url:
        for _ in range(5):
            with (
                pytest.raises(SharedSession, match="pooler in transaction mode"),
                guard(behind(url), JOB, RUN),
            ):
                pytest.fail("acquired")
        assert locks(database) == 0


def test_10_6_statement_mode_is_refused_and_no_lock_stays(
    environment: Settings, database: Engine
) -> None:
    with pgbouncer(environment.url, "statement") as url:
        with (
            pytest.raises(SharedSession, match="pooler in statement mode"),
            guard(behind(url), JOB, RUN),
        ):
            pytest.fail("acquired")
        with (
            pytest.raises(SharedSession, match="pooler in statement mode"),
            transaction(engine_for(behind(url), JOB)),
        ):
            pytest.fail("began")
        dispose_engines()
        assert locks(database) == 0


def test_10_6_session_mode_holds_the_guard(environment: Settings, database: Engine) -> None:
    with pgbouncer(environment.url, "session") as url:
        with guard(behind(url), JOB, RUN) as first:
            assert first.acquired
            first.check()
            with guard(environment, JOB, None) as second:
                assert second.holder is not None
                assert second.holder.pid == first.pid
        with guard(environment, JOB, RUN) as third:
            assert third.acquired
    assert locks(database) == 0


SHOWN = (
    "lock_timeout",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "row_security",
    "TimeZone",
    "search_path",
    "transaction_isolation",
    "transaction_read_only",
)


def shown(connection: "psycopg.Connection[tuple[str]]") -> dict[str, str]:
    found = {}
    for name in SHOWN:
        row = connection.execute(f"SHOW {name}".encode()).fetchone()
        assert row is not None
        found[name] = row[0]
    return found


def read(current: Settings) -> None:
    with transaction(engine_for(current, JOB), read_only=True) as connection:
        assert connection.execute(text("SHOW lock_timeout")).scalar_one() == "500ms"


def write(current: Settings) -> None:
    with transaction(engine_for(current, JOB)) as connection:
        assert connection.execute(text("SHOW row_security")).scalar_one() == "off"


def fail(current: Settings) -> None:
    with pytest.raises(DatabaseError), transaction(engine_for(current, JOB)) as connection:
        connection.execute(text("SELECT nothing"))


@pytest.mark.parametrize("act", [read, write, fail])
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_10_6_no_setting_reaches_the_next_client(
    environment: Settings, mode: str, act: Callable[[Settings], None]
) -> None:
    with pgbouncer(environment.url, mode, default_pool_size=1) as url:
        address = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(address, autocommit=True) as application:
            before = shown(application)
        act(behind(url))
        dispose_engines()
        with psycopg.connect(address, autocommit=True) as application:
            assert shown(application) == before


def test_10_6_a_run_in_transaction_mode_fails_with_what_to_set(
    environment: Settings, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pgbouncer(environment.url, "transaction") as url:
        address = url.set(drivername="postgresql").render_as_string(hide_password=False)
        monkeypatch.setenv("DATABASE_URL", address)
        settings.cache_clear()
        with pytest.raises(SharedSession, match="set DATABASE_URL"):
            run(clear_sessions)
        dispose_engines()
    settings.cache_clear()
    assert locks(database) == 0


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_10_6_the_preflight_names_the_pooler(environment: Settings, mode: str) -> None:
    with pgbouncer(environment.url, mode) as url:
        first = database_check(behind(url)).run()[0]
        assert first.level is Severity.ERROR
        assert f"a connection pooler in {mode} mode" in first.text
        dispose_engines()
