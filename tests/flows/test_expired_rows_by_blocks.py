"""Large tables most of which has expired are scanned by blocks (SPEC 7, docs/decisions/0004)."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, delete, text

from demo.embedded import EmbeddedServer
from flows.clear_sessions import clear_sessions
from maintenance.budget import SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import dispose_engines, engine_for
from maintenance.expiring import CALLBACK_RECEIPTS, SESSIONS
from maintenance.settings import DRIVER, Settings, settings
from tasks.expiry import delete_pass, expired_rows
from tasks.expiry.delete_pass import begin
from tasks.expiry.expired_rows import DeleteOptions, count_expired, delete_expired
from tasks.expiry.ranges import BlockRange, BlockScan, Due, TimeRange, TimeScan
from tests.support.crash_points import choice, crash_points
from tests.support.crash_run import NEVER, crash
from tests.support.hooks import at_statement
from tests.support.runs import run
from tests.support.sessions import block_of, change, fill_sessions, session_keys
from tests.support.validibot import DAY, NOW, TICK

JOB = clear_sessions.name
ROWS, DUE = 6_000, 5_000
SECOND = 1_000_000 * TICK
ORDERS = pytest.mark.parametrize("shuffled", [False, True], ids=["ordered", "shuffled"])
BLOCK_SCAN = "DELETE FROM django_session WHERE django_session.ctid >= "


@pytest.fixture(autouse=True)
def _environment(environment: Settings) -> None:
    """Every test here runs against its own database."""


@contextmanager
def locked(engine: Engine, *keys: str) -> Iterator[None]:
    with engine.begin() as application:
        query = text("SELECT FROM django_session WHERE session_key = ANY(:keys) FOR UPDATE")
        application.execute(query, {"keys": list(keys)})
        yield


@ORDERS
def test_by_blocks_exactly_what_is_due_goes(database: Engine, shuffled: bool) -> None:
    kept = fill_sessions(database, rows=ROWS, due=DUE, shuffled=shuffled)
    forecast = run(clear_sessions, as_of=NOW, dry_run=True)
    assert len(session_keys(database)) == ROWS
    with at_statement(JOB, BLOCK_SCAN, lambda _: None, before=True) as met:
        report = run(clear_sessions, as_of=NOW)
    assert met, "expected a block scan"
    assert session_keys(database) == kept
    assert (forecast.selected, report.done, report.rows_by_table) == (
        DUE,
        DUE,
        {"django_session": DUE},
    )
    assert (report.oldest, report.newest) == (NOW - DUE * SECOND, NOW - SECOND)
    assert (forecast.oldest, forecast.newest) == (report.oldest, report.newest)
    assert report.overdue is not None
    assert report.overdue.rows == 0


@ORDERS
def test_by_blocks_locked_rows_are_deferred_and_go_with_the_next_run(
    database: Engine, shuffled: bool
) -> None:
    kept = fill_sessions(database, rows=ROWS, due=DUE, shuffled=shuffled)
    mine = {"row0", "row2500", f"row{DUE - 1}"}
    with locked(database, *mine):
        report = run(clear_sessions, as_of=NOW)
    assert session_keys(database) == kept | mine
    assert (report.done, report.deferred, report.failed) == (DUE - 3, 3, 0)
    assert report.overdue is not None
    assert report.overdue.rows == 3
    assert (report.oldest, report.newest) == (None, None), (
        "the locked rows were the oldest and the newest"
    )
    assert run(clear_sessions, as_of=NOW).done == 3
    assert session_keys(database) == kept


def test_by_blocks_a_row_that_was_locked_only_for_a_while_goes_with_the_same_run(
    database: Engine,
) -> None:
    kept = fill_sessions(database, rows=ROWS, due=DUE, shuffled=True)
    application = database.connect()
    query = text("SELECT FROM django_session WHERE session_key = 'row7' FOR UPDATE")
    application.execute(query)

    def release(_connection: Any) -> None:
        application.close()

    with at_statement(JOB, "SKIP LOCKED", release) as met:
        report = run(clear_sessions, as_of=NOW)
    assert met
    assert session_keys(database) == kept
    assert (report.done, report.deferred) == (DUE, 0)


def test_by_blocks_rows_that_move_to_scanned_blocks_go_with_the_same_run(database: Engine) -> None:
    kept = fill_sessions(database, rows=ROWS, due=DUE, shuffled=False)
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # Free space in the first block, which is already scanned when rows move there.
        emptied = text("DELETE FROM django_session WHERE ctid < '(1,0)'::tid")
        gone_before = connection.execute(emptied).rowcount
        # Without INDEX_CLEANUP, VACUUM would leave so few dead rows in place.
        connection.execute(text("VACUUM (INDEX_CLEANUP ON) django_session"))
    moving = [f"row{DUE - number}" for number in range(1, 100)]
    assert block_of(database, moving[-1]) > 100
    places: set[int] = set()

    def move(_connection: Any) -> None:
        for key in moving:
            change(database, key)
            places.add(block_of(database, key))

    with at_statement(JOB, BLOCK_SCAN, move) as met:
        report = run(clear_sessions, as_of=NOW, batch_size=300)
    assert met
    assert 0 in places
    assert session_keys(database) == kept
    assert report.done == DUE - gone_before


def test_by_blocks_no_moved_row_is_looked_for_among_too_many_dead_rows(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = fill_sessions(database, rows=ROWS, due=DUE, shuffled=False)
    too_slow = 2 * delete_pass.MOVED_CHECK_MIN_SECONDS / DUE
    monkeypatch.setattr(delete_pass, "DEAD_ROW_SECONDS", too_slow)
    with at_statement(JOB, "SKIP LOCKED", lambda _: None) as met:
        report = run(clear_sessions, as_of=NOW)
    assert not met
    assert session_keys(database) == kept
    assert (report.done, report.oldest, report.newest) == (DUE, NOW - DUE * SECOND, NOW - SECOND)


def test_by_blocks_a_row_that_moves_to_new_blocks_goes_with_the_same_run(
    database: Engine,
) -> None:
    kept = fill_sessions(database, rows=ROWS, due=DUE, shuffled=False)
    end = block_of(database, f"row{ROWS - 1}")
    moving = [f"row{number}" for number in range(DUE - 200, DUE)]

    def move(_connection: Any) -> None:
        for key in moving:
            change(database, key)
        assert block_of(database, moving[-1]) > end

    with at_statement(JOB, BLOCK_SCAN, move) as met:
        report = run(clear_sessions, as_of=NOW, batch_size=300)
    assert met
    assert session_keys(database) == kept
    assert report.done == DUE


@ORDERS
def test_by_blocks_beside_a_live_application_no_live_session_is_deleted(
    database: Engine, shuffled: bool
) -> None:
    kept = fill_sessions(database, rows=ROWS, due=DUE, shuffled=shuffled)
    renewed: set[str] = set()
    saved: set[str] = set()
    born: set[str] = set()
    stopped, begun = Event(), Event()

    def live() -> None:
        for number in count():
            if stopped.is_set() or number * 7 >= DUE:
                return
            key = f"row{number * 7}"
            if key in session_keys_of(database, key):
                change(database, key, expires=NOW + DAY if number % 2 else None)
                (renewed if number % 2 else saved).add(key)
            fresh = f"born{number}"
            with database.begin() as connection:
                connection.execute(
                    text("INSERT INTO django_session VALUES (:key, 'x', :expires)"),
                    {"key": fresh, "expires": NOW + number * TICK},
                )
            born.add(fresh)
            begun.set()

    application = Thread(target=live)
    application.start()
    begun.wait(10)
    report = run(clear_sessions, as_of=NOW, batch_size=300)
    stopped.set()
    application.join(10)
    assert len(renewed) > 1
    assert born
    left = session_keys(database)
    # A row that the application saved during the run may have been deleted just before.
    assert kept | born <= left
    assert left - kept - born - renewed == set()
    assert report.failed == 0
    with database.connect() as connection:
        due = text("SELECT count(*) FROM django_session WHERE expire_date < :now")
        assert connection.execute(due, {"now": NOW}).scalar_one() == 0


def session_keys_of(engine: Engine, key: str) -> set[str]:
    query = text("SELECT session_key FROM django_session WHERE session_key = :key")
    with engine.connect() as connection:
        return set(connection.scalars(query, {"key": key}))


@ORDERS
def test_a_run_that_is_cut_short_counts_what_is_left_and_reports_no_times_that_it_does_not_know(
    database: Engine, shuffled: bool
) -> None:
    kept = fill_sessions(database, rows=ROWS, due=DUE, shuffled=shuffled)
    with locked(database, "row17"):
        report = run(clear_sessions, as_of=NOW, max_batches=2)
    left = session_keys(database) - kept
    assert 0 < len(left) < DUE
    assert report.stopped_because == "max_batches"
    assert report.done == DUE - len(left)
    assert report.overdue is not None
    assert (report.overdue.rows, report.overdue.estimated) == (len(left), False)
    assert (report.oldest, report.newest) == (None, None)


def test_a_count_that_takes_too_long_becomes_an_estimate(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_sessions(database, rows=60_000, due=50_000, shuffled=True)
    monkeypatch.setattr(expired_rows, "COUNT_SECONDS", 0.001)
    cutoff, options = Cutoff(NOW, NOW), DeleteOptions(JOB, SESSIONS, 1_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expired_rows, "COUNT_SECONDS", 60)
        exact = count_expired.fn(cutoff, options, None)
    assert (exact.rows, exact.estimated) == (50_000, False)
    assert exact.oldest_age_seconds == 50_000
    about = count_expired.fn(cutoff, options, None)
    assert about.estimated
    assert 45_000 < about.rows < 55_000


def test_the_statements_of_both_scans_read_only_their_range(database: Engine) -> None:
    fill_sessions(database, rows=ROWS, due=DUE, shuffled=False)
    due = Due(SESSIONS, NOW)
    for rows, node in (
        (BlockRange(3, 5), "Tid Range Scan on django_session"),
        (
            TimeRange(str(NOW - 100 * SECOND), str(NOW)),
            "Scan using django_session_expire_date_a5c62663",
        ),
    ):
        statement = delete(SESSIONS.table).where(rows.scope(due))
        plan = explained(database, statement)
        assert node in plan
        assert "Seq Scan" not in plan


def test_whether_a_run_is_active_is_part_of_the_statement_that_deletes(database: Engine) -> None:
    due = Due(CALLBACK_RECEIPTS, NOW)
    for rows in (BlockRange(0, 1), TimeRange(str(NOW - DAY), str(NOW))):
        statement = delete(CALLBACK_RECEIPTS.table).where(rows.scope(due))
        plan = explained(database, statement)
        assert "Anti Join" in plan or "SubPlan" in plan
        assert "validations_validationrun" in plan


def explained(engine: Engine, statement: Any) -> str:
    with engine.connect() as connection:
        plain = statement.compile(connection, compile_kwargs={"literal_binds": True})
        return "\n".join(connection.exec_driver_sql(f"EXPLAIN {plain}").scalars())


def test_batches_carry_on_where_the_last_slice_ended(database: Engine) -> None:
    kept = fill_sessions(database, rows=ROWS, due=DUE, shuffled=True)
    cutoff, options = Cutoff(NOW, NOW), DeleteOptions(JOB, SESSIONS, 300)
    progress, done, slices = None, 0, 0
    while progress is None or not progress.finished:
        piece = delete_expired.fn(cutoff, progress, SliceBudget(60, max_batches=1), options)
        progress, done, slices = piece.cursor, done + piece.result.done, slices + 1
        assert piece.result.done <= 400
    assert session_keys(database) == kept
    assert (done, slices > DUE / 400) == (DUE, True)


def test_small_batches_and_small_tables_are_scanned_by_time(database: Engine) -> None:
    engine = engine_for(settings(), JOB)
    fill_sessions(database, rows=ROWS, due=DUE, shuffled=True)
    due = Due(SESSIONS, NOW)
    assert isinstance(begin(engine, due, 50_000).scan, BlockScan)
    assert isinstance(begin(engine, due, 290).scan, TimeScan)
    assert begin(engine, Due(SESSIONS, NOW - 400 * DAY), 50_000).finished


@pytest.mark.slow
@pytest.mark.timeout(600)
@ORDERS
def test_2_5_by_blocks_a_crash_at_any_point_is_completed_by_the_next_run(
    server: EmbeddedServer,
    template_database: str,
    environment: Settings,
    shuffled: bool,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = f"blocks_scene_{shuffled}"
    url = server.create_database(scene, template=template_database)
    engine = create_engine(url.set(drivername=DRIVER))
    kept = fill_sessions(engine, rows=ROWS, due=DUE, shuffled=shuffled)
    engine.dispose()
    names: list[str] = []

    def crashed(point: int) -> tuple[URL, list[str]]:
        copy = server.create_database(f"{scene}_copy", template=scene)
        address = copy.render_as_string(hide_password=False)
        order = {"job": JOB, "url": address, "root": tmp_path, "as_of": NOW}
        return copy, crash(**order, point=point)

    def total() -> int:
        _, reached = crashed(NEVER)
        server.drop_database(f"{scene}_copy")
        return len(reached)

    for point in crash_points(scene, total):
        copy, names = crashed(point)
        address = copy.render_as_string(hide_password=False)
        monkeypatch.setenv("DATABASE_URL", address)
        settings.cache_clear()
        report = run(clear_sessions, as_of=NOW)
        engine = create_engine(copy.set(drivername=DRIVER))
        assert session_keys(engine) == kept, f"after a crash before: {names[-1]} ({choice()})"
        assert report.failed == 0
        engine.dispose()
        dispose_engines()
        server.drop_database(f"{scene}_copy")
        if len(names) <= point:
            break
    server.drop_database(scene)
    assert sum(BLOCK_SCAN in name for name in names) >= 3
