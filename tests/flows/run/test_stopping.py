"""Stop requests: during a batch, between batches, during a wait, and a second signal."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from flows.clear_sessions import clear_sessions
from flows.purge_expired_submissions import purge_expired_submissions
from maintenance import schema, stop_request
from maintenance.budget import BatchSizer, SliceBudget
from maintenance.report import BatchResult, StopReason
from maintenance.settings import Settings
from maintenance.stop_request import StopRequested, stoppable
from tasks.batching.slices import Batch, work_slice
from tests.support.commands import Command, without_prefect
from tests.support.hooks import CLAIM, STAMP, at_statement
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

STOP_SECONDS = 10.0
WAIT_SECONDS = 30.0
SESSIONS = 500
JOB = purge_expired_submissions.name

HANG = """
CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql
  AS 'BEGIN PERFORM pg_sleep(25); RETURN NULL; END';
CREATE TRIGGER hang BEFORE UPDATE ON submissions_submission
  FOR EACH STATEMENT EXECUTE FUNCTION hang()
"""


@pytest.fixture(autouse=True)
def _environment(environment: Settings) -> None:
    """Every test here runs against its own database and storage."""


def terminate(_connection: Any) -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_stopped_run_finishes_its_batch_and_the_next_run_does_the_rest(
    validibot: Validibot, number: signal.Signals
) -> None:
    due = {validibot.submission() for _ in range(9)}

    def ask(_connection: Any) -> None:
        signal.raise_signal(number)

    with at_statement(JOB, STAMP, ask) as met:
        report = run(purge_expired_submissions, as_of=NOW, batch_size=2)
    assert len(met) == 1
    assert len(validibot.purged()) == report.done == report.selected == 2
    assert report.stopped_because is StopReason.CANCELLED
    assert report.summary() == "2 of 2 done, stopped on request"
    assert report.overdue is None
    assert stop_request.stopped_by() is number
    assert run(purge_expired_submissions, as_of=NOW).done == 7
    assert validibot.purged() == due


def test_a_dry_run_stops_too(validibot: Validibot) -> None:
    for _ in range(9):
        validibot.submission()
    with at_statement(JOB, "FROM submissions_submission", terminate) as met:
        report = run(purge_expired_submissions, as_of=NOW, batch_size=2, dry_run=True)
    assert report.stopped_because is StopReason.CANCELLED
    assert met
    assert report.selected < 9


def lose_connection(connection: Connection) -> None:
    """End the connection of the next statement on the server's side."""
    with connection.engine.connect() as other:
        pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
        other.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})


@contextmanager
def terminated_while_waiting() -> Iterator[threading.Event]:
    """Send SIGTERM to this process as soon as it waits for another attempt."""
    sent, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            if stop_request._request.waiting:
                sent.set()
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()


def test_a_wait_for_another_attempt_is_left_at_once(validibot: Validibot) -> None:
    due = validibot.submission()
    started = time.monotonic()
    with (
        at_statement(JOB, CLAIM, lose_connection, before=True) as met,
        terminated_while_waiting() as sent,
    ):
        report = run(purge_expired_submissions, as_of=NOW)
    assert met
    assert sent.is_set()
    assert time.monotonic() - started < STOP_SECONDS  # and not a minute
    assert report.stopped_because is StopReason.CANCELLED
    assert report.summary() == "Nothing done, stopped on request"
    assert run(purge_expired_submissions, as_of=NOW).done == 1
    assert validibot.purged() == {due}


def test_after_a_stop_request_a_transient_error_is_not_retried(validibot: Validibot) -> None:
    validibot.submission()

    def ask_and_lose(connection: Connection) -> None:
        signal.raise_signal(signal.SIGTERM)
        lose_connection(connection)

    started = time.monotonic()
    with at_statement(JOB, CLAIM, ask_and_lose, before=True):
        report = run(purge_expired_submissions, as_of=NOW)
    assert time.monotonic() - started < STOP_SECONDS
    assert report.stopped_because is StopReason.CANCELLED
    assert report.warnings[0].startswith("stopped instead of retrying: ")


def test_a_request_in_the_last_batch_leaves_nothing_to_stop(validibot: Validibot) -> None:
    validibot.session(NOW - DAY)
    with at_statement(clear_sessions.name, "DELETE FROM django_session", terminate) as met:
        report = run(clear_sessions, as_of=NOW)
    assert met
    assert (report.done, report.stopped_because) == (1, StopReason.DRAINED)


def test_a_pause_does_not_hold_up_a_stop(
    validibot: Validibot, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        validibot.session(NOW - DAY)
    process = begin("clear-sessions", "--batch-size", "1", MAINTENANCE_DELETE_PAUSE_SECONDS="60")
    wait_until_deleted(validibot, total=2, some=1)
    started = time.monotonic()
    process.terminate()
    output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert time.monotonic() - started < STOP_SECONDS
    assert (process.returncode, json.loads(output)["done"]) == (143, 1)


def begin(*arguments: str, **variables: str) -> Command:
    return Command("flows", *arguments, "--json", env=without_prefect(**variables))


def wait_until_deleted(validibot: Validibot, total: int, some: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while len(validibot.rows(schema.sessions)) > total - some:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_ends_with_its_report_and_the_status_of_the_signal(
    validibot: Validibot, number: signal.Signals, status: int
) -> None:
    for _ in range(SESSIONS):
        validibot.session(NOW - DAY)
    process = begin("clear-sessions", "--batch-size", "1")
    wait_until_deleted(validibot, SESSIONS, some=3)
    process.send_signal(number)
    output, errors = process.communicate(timeout=STOP_SECONDS)
    assert process.returncode == status, errors
    report = json.loads(output)
    left = len(validibot.rows(schema.sessions))
    assert 0 < left < SESSIONS
    assert (report["done"], report["stopped_because"]) == (SESSIONS - left, "cancelled")


def test_a_second_signal_ends_a_run_at_once_and_its_batch_is_rolled_back(
    validibot: Validibot,
) -> None:
    validibot.submission()
    with validibot.engine.begin() as connection:
        connection.execute(text(HANG))
    before = validibot.snapshot()
    process = begin(JOB)
    wait_for_sleeper(validibot)
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)  # it waits for its statement
    process.terminate()
    assert process.wait(STOP_SECONDS) == -signal.SIGTERM
    process.communicate()
    wait_for_sleeper(validibot, there=False)
    assert validibot.snapshot() == before


def wait_for_sleeper(validibot: Validibot, *, there: bool = True) -> None:
    query = text(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event = 'PgSleep'"
    )
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with validibot.engine.connect() as connection:
            if connection.execute(query).scalar_one() == there:
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_request_ends_with_its_run() -> None:
    with stoppable():
        signal.raise_signal(signal.SIGTERM)
        assert stop_request.requested() is signal.SIGTERM
        with pytest.raises(StopRequested):
            stop_request.check()
    assert stop_request.requested() is None
    stop_request.check()


def test_the_previous_signal_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in stop_request.SIGNALS]
    with stoppable():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in stop_request.SIGNALS] == before


def test_an_ignored_signal_stays_ignored_except_the_one_from_the_worker() -> None:
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGUSR1)
    }
    try:
        with stoppable():
            signal.raise_signal(signal.SIGINT)
            assert stop_request.requested() is None
            for _ in range(3):
                signal.raise_signal(signal.SIGUSR1)
            assert stop_request.requested() is signal.SIGUSR1
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_slice_does_nothing_after_a_stop_request() -> None:
    def one_batch(_cursor: int | None, _rows: int) -> Batch[int]:
        pytest.fail("no batch may begin")

    with stoppable():
        signal.raise_signal(signal.SIGTERM)
        share = SliceBudget(timedelta(hours=1).total_seconds())
        done = work_slice(one_batch, 7, share, BatchSizer(10, 1.0))
    assert (done.cursor, done.exhausted, done.result) == (7, False, BatchResult())


def test_a_run_outside_the_main_thread_does_its_work(validibot: Validibot) -> None:
    validibot.session(NOW - DAY)
    reports = []
    thread = threading.Thread(target=lambda: reports.append(run(clear_sessions, as_of=NOW)))
    thread.start()
    thread.join(WAIT_SECONDS)
    assert [report.done for report in reports] == [1]
