"""Whatever a row holds is that row's: refused rows, slow rows, odd times (SPEC 10.7)."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, Table, select, text

from flows.cleanup_callback_receipts import cleanup_callback_receipts
from flows.cleanup_idempotency_keys import cleanup_idempotency_keys
from flows.clear_sessions import clear_sessions
from maintenance import schema
from maintenance.budget import SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.errors import GuardLost
from maintenance.expiring import SESSIONS
from maintenance.guard import guard
from maintenance.settings import Settings, settings
from tasks.expiry.expired_rows import DeleteOptions, count_expired, delete_expired
from tests.support.hooks import at_statement
from tests.support.runs import run
from tests.support.sessions import PARTITIONED, fill_sessions, session_keys
from tests.support.validibot import DAY, NOW, Validibot

JOB = clear_sessions.name
ROWS, DUE = 6_000, 5_000
BOTH_SCANS = pytest.mark.parametrize("batch_size", [50_000, 290], ids=["by blocks", "by time"])
BOTH_LAYOUTS = pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "shuffled"])
BEFORE_YEAR_1 = datetime.min.replace(tzinfo=UTC)


@pytest.fixture(autouse=True)
def _environment(environment: Settings) -> None:
    """Every test here runs against its own database."""


def trigger(engine: Engine, body: str, when: str, keys: set[str]) -> None:
    """Make a trigger that acts on the DELETE of some sessions."""
    listed = ", ".join(f"'{key}'" for key in sorted(keys))
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$ BEGIN {body}; RETURN OLD; END $$"
            )
        )
        connection.execute(
            text(f"{when} FOR EACH ROW WHEN (OLD.session_key IN ({listed})) EXECUTE FUNCTION odd()")
        )


AT_COMMIT = (
    "CREATE CONSTRAINT TRIGGER odd AFTER DELETE ON django_session DEFERRABLE INITIALLY DEFERRED"
)
BEFORE = "CREATE TRIGGER odd BEFORE DELETE ON django_session"
REFUSE = "RAISE EXCEPTION 'this session is still referred to'"


@contextmanager
def locked(engine: Engine, key: str) -> Iterator[None]:
    with engine.begin() as application:
        query = text("SELECT FROM django_session WHERE session_key = :key FOR UPDATE")
        application.execute(query, {"key": key})
        yield


@BOTH_SCANS
@pytest.mark.parametrize("when", [AT_COMMIT, BEFORE], ids=["at commit", "at once"])
def test_10_7_refused_rows_fail_by_ctid_and_the_others_are_deleted(
    database: Engine, batch_size: int, when: str
) -> None:
    kept = fill_sessions(database, rows=ROWS, due=DUE, shuffled=True)
    refused = {"row0", "row1", "row2500", f"row{DUE - 1}"}
    trigger(database, REFUSE, when, refused)
    report = run(clear_sessions, as_of=NOW, batch_size=batch_size)
    assert session_keys(database) == kept | refused
    assert (report.selected, report.done, report.failed) == (DUE, DUE - 4, 4)
    assert report.deferred == 0
    assert report.overdue is not None
    assert report.overdue.rows == 4
    with database.connect() as connection:
        query = text("SELECT ctid::text FROM django_session WHERE session_key = ANY(:keys)")
        places = connection.execute(query, {"keys": list(refused)}).scalars().all()
    assert {one.item for one in report.failures} == {
        f"django_session row with ctid {place}" for place in places
    }
    assert all("this session is still referred to" in one.cause for one in report.failures)


@BOTH_SCANS
def test_10_7_a_row_that_exceeds_the_statement_time_out_fails_and_the_others_are_deleted(
    database: Engine, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINTENANCE_STATEMENT_TIMEOUT_SECONDS", "0.4")
    settings.cache_clear()
    kept = fill_sessions(database, rows=ROWS, due=DUE, shuffled=True)
    trigger(database, "PERFORM pg_sleep(30)", BEFORE, {"row2500"})
    report = run(clear_sessions, as_of=NOW, batch_size=batch_size)
    assert session_keys(database) == kept | {"row2500"}
    assert (report.done, report.failed) == (DUE - 1, 1)
    assert "statement timeout" in report.failures[0].cause


@BOTH_SCANS
def test_10_7_a_locked_row_beside_a_refused_one_is_deferred(
    database: Engine, batch_size: int
) -> None:
    kept = fill_sessions(database, rows=ROWS, due=DUE, shuffled=False)
    trigger(database, REFUSE, AT_COMMIT, {"row2500", "row4000"})
    with locked(database, "row2501"):
        report = run(clear_sessions, as_of=NOW, batch_size=batch_size)
    assert session_keys(database) == kept | {"row2500", "row2501", "row4000"}
    assert (report.done, report.failed, report.deferred) == (DUE - 3, 2, 1)


def test_10_7_a_refused_row_that_was_locked_at_first_fails_at_the_second_visit(
    database: Engine,
) -> None:
    kept = fill_sessions(database, rows=ROWS, due=DUE, shuffled=False)
    trigger(database, REFUSE, AT_COMMIT, {"row7"})
    application = database.connect()
    application.execute(text("SELECT FROM django_session WHERE session_key = 'row7' FOR UPDATE"))
    with at_statement(JOB, "SKIP LOCKED", lambda _: application.close()) as met:
        report = run(clear_sessions, as_of=NOW)
    assert met
    assert session_keys(database) == kept | {"row7"}
    assert (report.done, report.failed, report.deferred) == (DUE - 1, 1, 0)


DUE_TIMES = ("-infinity", "-infinity", "-infinity", "4713-01-02 BC", "0044-03-15 BC", "0001-01-01")
LIVE_TIMES = ("infinity", "9999-12-30", "294276-12-30")


@pytest.mark.parametrize("batch_size", [None, 2, 1])
@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize(
    ("flow", "table", "column"),
    [
        (clear_sessions, schema.sessions, "expire_date"),
        (cleanup_idempotency_keys, schema.idempotency_keys, "expires_at"),
        (cleanup_callback_receipts, schema.callback_receipts, "received_at"),
    ],
    ids=["sessions", "keys", "receipts"],
)
def test_10_7_times_that_python_cannot_hold_are_compared_by_the_database(
    validibot: Validibot,
    flow: Any,
    table: Table,
    column: str,
    indexed: bool,
    batch_size: int | None,
) -> None:
    ended = validibot.run(None)

    def make() -> Any:
        if table is schema.sessions:
            return validibot.session(NOW - 60 * DAY)
        if table is schema.idempotency_keys:
            return validibot.idempotency_key(NOW - 60 * DAY)
        return validibot.receipt(NOW - 60 * DAY, ended)

    (key,) = table.primary_key.columns
    kept = set()
    with validibot.engine.begin() as connection:
        if not indexed:
            names = "SELECT indexname FROM pg_indexes WHERE tablename = :table AND indexdef LIKE :c"
            found = {"table": table.name, "c": f"%({column})%"}
            for name in connection.execute(text(names), found).scalars().all():
                connection.execute(text(f"DROP INDEX {name}"))
    for time in (*DUE_TIMES, *LIVE_TIMES):
        made = make()
        kept |= {made} if time in LIVE_TIMES else set()
        with validibot.engine.begin() as connection:
            change = f"UPDATE {table.name} SET {column} = '{time}' WHERE {key.name} = :key"
            connection.execute(text(change), {"key": made})
    make()
    forecast = run(flow, as_of=NOW, dry_run=True, batch_size=batch_size)
    report = run(flow, as_of=NOW, batch_size=batch_size)
    number = len(DUE_TIMES) + 1
    with validibot.engine.connect() as connection:
        assert set(connection.execute(select(key)).scalars()) == kept
    assert (forecast.selected, report.done, report.failed) == (number, number, 0)
    if indexed:
        assert (report.oldest, report.newest) == (BEFORE_YEAR_1, NOW - 60 * DAY)
    assert report.overdue is not None
    assert report.overdue.rows == 0


def test_10_7_the_backlog_counts_times_that_python_cannot_hold(validibot: Validibot) -> None:
    key = validibot.session(NOW - DAY)
    with validibot.engine.begin() as connection:
        change = "UPDATE django_session SET expire_date = '-infinity' WHERE session_key = :key"
        connection.execute(text(change), {"key": key})
    overdue = count_expired.fn(Cutoff(NOW, NOW), DeleteOptions(JOB, SESSIONS, 1_000), None)
    assert (overdue.rows, overdue.oldest_age_seconds) == (
        1,
        (NOW - BEFORE_YEAR_1).total_seconds(),
    )


@pytest.mark.parametrize("equal", [False, True], ids=["a tick apart", "of one time"])
def test_10_5_deletes_by_ctid_never_reach_live_rows_of_another_partition(
    database: Engine, equal: bool
) -> None:
    with database.begin() as connection:
        for statement in PARTITIONED:
            connection.execute(text(statement))
        insert = text("INSERT INTO django_session VALUES (:key, '', :time + :n * interval '1 us')")
        for number in range(100):
            n = 0 if equal else number
            connection.execute(insert, {"key": f"due{number}", "time": NOW - DAY, "n": n})
            connection.execute(insert, {"key": f"live{number}", "time": NOW + DAY, "n": n})
    cutoff, options = Cutoff(NOW, NOW), DeleteOptions(JOB, SESSIONS, 20)
    with locked(database, "due7"):
        progress = None
        while progress is None or not progress.finished:
            progress = delete_expired.fn(cutoff, progress, SliceBudget(60), options).cursor
    assert session_keys(database) == {f"live{number}" for number in range(100)} | {"due7"}


def test_2_8_after_the_guard_is_lost_at_most_a_second_of_batches_follows(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINTENANCE_DELETE_PAUSE_SECONDS", "0.2")
    settings.cache_clear()
    fill_sessions(database, rows=ROWS, due=DUE, shuffled=False)

    def end_guard(_connection: Any) -> None:
        with database.begin() as admin:
            ended = admin.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'clear-sessions/%'"
                )
            )
            assert ended.scalars().all() == [True]

    options = DeleteOptions(JOB, SESSIONS, 290)
    with (
        guard(settings(), JOB, uuid4()),
        at_statement(JOB, "DELETE FROM django_session", end_guard) as met,
        pytest.raises(GuardLost),
    ):
        delete_expired.fn(Cutoff(NOW, NOW), None, SliceBudget(60), options)
    assert met
    assert len(session_keys(database)) >= ROWS - 6 * 290


def test_10_10_the_first_batch_of_a_table_of_large_rows_has_as_many_rows_as_asked_for(
    database: Engine,
) -> None:
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ALTER TABLE django_session ALTER session_data SET STORAGE PLAIN"))
        connection.execute(
            text(
                "INSERT INTO django_session SELECT 'row' || n, repeat('x', 3500),"
                " :now - n * interval '1 s' FROM generate_series(1, 2000) AS n"
            ),
            {"now": NOW},
        )
        connection.execute(text("VACUUM ANALYZE django_session"))
    report = run(clear_sessions, as_of=NOW, batch_size=1_000, max_batches=1)
    assert report.done == 1_000


def test_10_10_a_batch_size_of_100_and_10_batches_delete_1000_rows(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINTENANCE_DELETE_BATCH_SECONDS", "60")
    settings.cache_clear()
    fill_sessions(database, rows=ROWS, due=DUE, shuffled=True)
    assert run(clear_sessions, as_of=NOW, batch_size=100, max_batches=10).done == 1_000


@BOTH_LAYOUTS
def test_10_10_the_first_batch_has_as_many_rows_as_asked_for(
    database: Engine, shuffled: bool
) -> None:
    fill_sessions(database, rows=ROWS, due=DUE, shuffled=shuffled)
    report = run(clear_sessions, as_of=NOW, batch_size=4_000, max_batches=1)
    # A batch by blocks has about as many rows: most of a block's rows are due.
    assert 3_000 <= report.done <= 4_200
