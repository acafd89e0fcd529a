"""What the three jobs that delete rows by age delete and keep (SPEC 7)."""

import json
import logging
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError
from sqlalchemy import Connection, Engine, text

from flows.__main__ import main
from flows.cleanup_callback_receipts import cleanup_callback_receipts
from flows.cleanup_idempotency_keys import cleanup_idempotency_keys
from flows.clear_sessions import clear_sessions
from flows.jobs import JOBS
from flows.run.prefect_context import LOGGER
from maintenance import schema
from maintenance.errors import ParameterError
from maintenance.expiring import EXPIRING, ExpiringTable
from maintenance.schema.vocabulary import TERMINAL_RUN_STATUSES, IdempotencyKeyStatus, RunStatus
from maintenance.settings import Settings
from tests.support.hooks import at_statement
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, TICK, Validibot

MONTH = 30 * DAY


@pytest.fixture(autouse=True)
def _environment(environment: Settings) -> None:
    """Every test here runs against its own database."""


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """Restore the loggers that the command line configures."""
    loggers = [logging.getLogger(name) for name in (LOGGER, "prefect.flows")]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate, logger.handlers = propagate, handlers


def receipts(validibot: Validibot) -> set[uuid.UUID]:
    return set(validibot.rows(schema.callback_receipts))


def test_keys_go_before_the_cutoff_whatever_their_status(validibot: Validibot) -> None:
    for status in IdempotencyKeyStatus:
        for age in (TICK, DAY, 400 * DAY):
            validibot.idempotency_key(NOW - age, status=status)
    kept = {validibot.idempotency_key(NOW + age) for age in (0 * DAY, TICK, DAY)}
    report = run(cleanup_idempotency_keys, as_of=NOW)
    assert set(validibot.rows(schema.idempotency_keys)) == kept
    assert report.done == 6


def test_sessions_go_before_the_cutoff_and_one_that_equals_it_stays(validibot: Validibot) -> None:
    for age in (TICK, DAY, 400 * DAY):
        validibot.session(NOW - age)
    kept = {validibot.session(NOW + age) for age in (0 * DAY, TICK, DAY)}
    assert run(clear_sessions, as_of=NOW).done == 3
    assert set(validibot.rows(schema.sessions)) == kept


def test_receipts_go_thirty_days_before_the_cutoff(validibot: Validibot) -> None:
    ended = validibot.run(None)
    for age in (TICK, DAY, 400 * DAY):
        validibot.receipt(NOW - MONTH - age, ended)
    kept = {validibot.receipt(NOW - MONTH + age, ended) for age in (0 * DAY, TICK, DAY)}
    report = run(cleanup_callback_receipts, as_of=NOW)
    assert receipts(validibot) == kept
    assert (report.done, report.cutoff) == (3, NOW - MONTH)


def test_receipts_of_active_runs_stay_whatever_their_age(validibot: Validibot) -> None:
    statuses = [*RunStatus, "A_FUTURE_STATUS"]
    by_status = {
        status: validibot.receipt(NOW - 400 * DAY, validibot.run(None, status=status[:16]))
        for status in statuses
    }
    active = {key for status, key in by_status.items() if status not in TERMINAL_RUN_STATUSES}
    assert len(active) == 3
    report = run(cleanup_callback_receipts, as_of=NOW)
    assert receipts(validibot) == active
    assert report.overdue is not None
    assert report.overdue.rows == 0


@pytest.mark.parametrize("days", [1, 7, 365])
def test_receipts_go_after_the_number_of_days_given(validibot: Validibot, days: int) -> None:
    ended = validibot.run(None)
    validibot.receipt(NOW - days * DAY - TICK, ended)
    kept = validibot.receipt(NOW - days * DAY, ended)
    assert run(cleanup_callback_receipts, as_of=NOW, days=days).done == 1
    assert receipts(validibot) == {kept}


def test_2_10_receipts_of_today_go_only_with_allow_recent(validibot: Validibot) -> None:
    ended = validibot.run(None)
    validibot.receipt(NOW - TICK, ended)
    kept = validibot.receipt(NOW, ended)
    before = validibot.snapshot()
    with pytest.raises(ParameterError, match="at least 1, or 0 with allow_recent"):
        run(cleanup_callback_receipts, as_of=NOW, days=0)
    assert validibot.snapshot() == before
    assert run(cleanup_callback_receipts, as_of=NOW, days=0, allow_recent=True).done == 1
    assert receipts(validibot) == {kept}


@pytest.mark.parametrize(
    ("days", "allowed"),
    [
        (-1, "greater than or equal to 0"),
        (36_501, "less than or equal to 36500"),
        (0.5, "valid integer"),
        ("all", "valid integer"),
    ],
)
@pytest.mark.parametrize("allow_recent", [False, True])
def test_2_10_days_out_of_bounds_are_always_refused(
    validibot: Validibot, days: Any, allowed: str, allow_recent: bool
) -> None:
    validibot.receipt(NOW - 400 * DAY, validibot.run(None))
    before = validibot.snapshot()
    with pytest.raises(ParameterTypeError, match=allowed):
        run(cleanup_callback_receipts, as_of=NOW, days=days, allow_recent=allow_recent)
    assert validibot.snapshot() == before


@pytest.mark.parametrize("days", [1, 30, 36_500])
def test_a_cutoff_before_the_first_year_is_refused_by_name(days: int) -> None:
    with pytest.raises(ParameterError, match=f"as_of=.* less than {days} days after year 1"):
        run(cleanup_callback_receipts, as_of=datetime(1, 1, 1, tzinfo=UTC), days=days)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--days", "0"], "days=0: must be at least 1, or 0 with allow_recent"),
        (["--days", "-1"], "must be at least 0"),
        (["--days", "-1", "--allow-recent"], "must be at least 0"),
        (["--days", "many"], "must be a whole number"),
        (["--as-of", "2999-01-01T00:00:00Z"], "lies in the future"),
        (["--days", "1", "--as-of", "2999-01-01T00:00:00Z"], "lies in the future"),
    ],
)
def test_2_10_on_the_command_line_a_bad_parameter_ends_with_status_2(
    validibot: Validibot, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    validibot.receipt(NOW - 400 * DAY, validibot.run(None))
    before = validibot.snapshot()
    assert main(["cleanup-callback-receipts", *options]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert validibot.snapshot() == before


def test_on_the_command_line_recent_receipts_go_with_allow_recent(
    validibot: Validibot, capsys: pytest.CaptureFixture[str]
) -> None:
    validibot.receipt(NOW - TICK, validibot.run(None))
    options = ["--days", "0", "--allow-recent", "--as-of", NOW.isoformat(), "--json"]
    assert main(["cleanup-callback-receipts", *options]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == 1


def test_the_report_names_the_cutoff_and_the_oldest_and_newest_row_deleted(
    validibot: Validibot,
) -> None:
    for age in (3, 1, 7):
        validibot.session(NOW - age * DAY)
    validibot.session(NOW)
    report = run(clear_sessions, as_of=NOW, batch_size=1)
    assert (report.cutoff, report.oldest, report.newest) == (NOW, NOW - 7 * DAY, NOW - DAY)


def test_a_run_without_work_reports_no_times(validibot: Validibot) -> None:
    validibot.session(NOW)
    report = run(clear_sessions, as_of=NOW)
    assert (report.done, report.batches, report.oldest, report.newest) == (0, 0, None, None)


def test_what_a_run_reports_as_deleted_is_on_disk(validibot: Validibot, database: Engine) -> None:
    validibot.session(NOW - DAY)
    written: list[str] = []

    def note(connection: Connection) -> None:
        cursor = connection.connection.cursor()
        cursor.execute("SELECT pg_current_wal_insert_lsn()::text")
        written.extend(*cursor.fetchall())

    with at_statement(clear_sessions.name, "pg_logical_emit_message", note):
        assert run(clear_sessions, as_of=NOW).done == 1
    with database.connect() as connection:
        on_disk = text("SELECT pg_current_wal_flush_lsn() >= CAST(:written AS pg_lsn)")
        assert connection.execute(on_disk, {"written": written[0]}).scalar_one()


def test_more_rows_of_one_time_than_a_batch_go_in_several_batches_except_a_locked_one(
    validibot: Validibot, database: Engine
) -> None:
    locked, *_ = (validibot.session(NOW - DAY) for _ in range(7))
    for age in (2 * DAY, TICK):
        validibot.session(NOW - age)
    lock = text("SELECT FROM django_session WHERE session_key = :key FOR UPDATE")
    with database.begin() as application:
        application.execute(lock, {"key": locked})
        report = run(clear_sessions, as_of=NOW, batch_size=2)
    assert set(validibot.rows(schema.sessions)) == {locked}
    assert (report.done, report.deferred) == (8, 1)


def test_rows_that_stay_locked_are_deferred_and_overdue_and_go_with_the_next_run(
    validibot: Validibot, database: Engine
) -> None:
    keys = [validibot.session(NOW - number * DAY) for number in range(1, 10)]
    locked = {keys[2], keys[6]}
    lock = text("SELECT FROM django_session WHERE session_key = ANY(:keys) FOR UPDATE")
    with database.begin() as application:
        application.execute(lock, {"keys": sorted(locked)})
        report = run(clear_sessions, as_of=NOW, batch_size=3)
    assert set(validibot.rows(schema.sessions)) == locked
    assert (report.done, report.deferred) == (7, 2)
    assert report.overdue is not None
    assert report.overdue.rows == 2
    age = report.overdue.oldest_age_seconds
    assert age is not None
    assert abs(age - (datetime.now(UTC) - (NOW - 7 * DAY)).total_seconds()) < 600
    assert run(clear_sessions, as_of=NOW).done == 2


def test_a_row_that_is_renewed_while_its_batch_waits_for_it_stays(
    validibot: Validibot, database: Engine
) -> None:
    renewed, _ = validibot.session(NOW - DAY), validibot.session(NOW - 2 * DAY)
    with database.begin() as application:
        application.execute(
            text("UPDATE django_session SET expire_date = :later WHERE session_key = :key"),
            {"key": renewed, "later": NOW + DAY},
        )
        assert run(clear_sessions, as_of=NOW).done == 1
    assert set(validibot.rows(schema.sessions)) == {renewed}


@pytest.mark.parametrize(
    ("flow", "drop", "create"),
    [
        (
            clear_sessions,
            "DROP INDEX django_session_expire_date_a5c62663",
            "CREATE INDEX CONCURRENTLY ON django_session (expire_date)",
        ),
        (
            cleanup_callback_receipts,
            "DROP INDEX validations_receive_c9be3d_idx",
            "CREATE INDEX CONCURRENTLY ON validations_callbackreceipt (received_at)",
        ),
    ],
)
def test_without_its_index_a_job_still_works_and_reports_the_statement_to_create_it(
    validibot: Validibot, database: Engine, flow: Any, drop: str, create: str
) -> None:
    kept = validibot.session(NOW), validibot.receipt(NOW - MONTH, validibot.run(None))
    validibot.session(NOW - TICK)
    validibot.receipt(NOW - MONTH - TICK, validibot.run(None))
    with database.begin() as connection:
        connection.execute(text(drop))
    forecast = run(flow, as_of=NOW, dry_run=True)
    report = run(flow, as_of=NOW)
    assert (forecast.selected, report.done) == (1, 1)
    assert [create in warning for warning in report.warnings] == [True]
    assert forecast.warnings == report.warnings
    assert kept[0] in validibot.rows(schema.sessions)
    assert kept[1] in validibot.rows(schema.callback_receipts)


@pytest.mark.parametrize("expiring", EXPIRING, ids=lambda one: one.table.name)
def test_every_table_that_is_deleted_by_age_has_a_job_that_shows_it(
    expiring: ExpiringTable, capsys: pytest.CaptureFixture[str]
) -> None:
    (job,) = (job for job in JOBS.values() if job.expiring is expiring)
    assert main(["--list"]) == 0
    (line,) = (one for one in capsys.readouterr().out.splitlines() if one.startswith(job.name))
    assert f"{expiring.table.name}: {expiring.time.name} before " in line


def test_the_list_names_rows_that_stay_regardless_of_age(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["--list"])
    said = "received_at before 30 days ago, except receipts of active runs"
    assert said in capsys.readouterr().out
