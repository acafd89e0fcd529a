"""The success ping: which runs send it, and what is logged when it fails."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest

from demo.ports import free_port
from flows.clear_sessions import clear_sessions
from flows.purge_expired_submissions import purge_expired_submissions
from flows.run.success_ping import TIMEOUT_SECONDS, ping
from maintenance import settings as settings_module
from maintenance.errors import SettingsError
from maintenance.guard import guard
from maintenance.settings import Settings, load_settings
from tests.support.hooks import at_statement
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

SECRET = "0f1e2d3c-token"
VARIABLE = "MAINTENANCE_SUCCESS_PING_URL"


class Listener:
    """A service that records the pings that it receives."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.status = 200
        self.release = threading.Event()
        self.release.set()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                listener.paths.append(self.path)
                listener.release.wait(60)
                self.send_response(listener.status)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{SECRET}/{{job}}"


@pytest.fixture
def listener() -> Iterator[Listener]:
    listening = Listener()
    thread = threading.Thread(target=listening.server.serve_forever, daemon=True)
    thread.start()
    yield listening
    listening.release.set()
    listening.server.shutdown()
    listening.server.server_close()
    thread.join(10)


@pytest.fixture
def pinging(listener: Listener, environment: Settings, monkeypatch: pytest.MonkeyPatch) -> Listener:
    """Runs of this test ping the listener."""
    point_at(listener.address, monkeypatch)
    return listener


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, address)
    settings_module.settings.cache_clear()


@contextmanager
def maintenance_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG):
        yield


def test_a_run_that_has_done_its_job_pings_with_its_name(
    pinging: Listener, validibot: Validibot
) -> None:
    validibot.session(NOW - DAY)
    run(clear_sessions, as_of=NOW)
    run(clear_sessions, as_of=NOW)  # a run without work is a success too
    run(purge_expired_submissions, as_of=NOW)
    assert pinging.paths == [
        f"/{SECRET}/clear-sessions",
        f"/{SECRET}/clear-sessions",
        f"/{SECRET}/purge-expired-submissions",
    ]


def test_a_run_that_leaves_the_rest_to_the_next_one_pings(
    pinging: Listener, validibot: Validibot
) -> None:
    for _ in range(3):
        validibot.session(NOW - DAY)
    assert run(clear_sessions, as_of=NOW, batch_size=1, max_batches=1).done == 1
    assert len(pinging.paths) == 1


def test_a_dry_run_does_not_ping(pinging: Listener, validibot: Validibot) -> None:
    run(clear_sessions, as_of=NOW, dry_run=True)
    assert pinging.paths == []


def test_a_run_with_failed_items_does_not_ping(pinging: Listener, validibot: Validibot) -> None:
    (validibot.root / "private/submissions/x").mkdir(parents=True)
    validibot.submission(input_file="submissions/x")
    assert run(purge_expired_submissions, as_of=NOW).failed == 1
    assert pinging.paths == []


def test_a_skipped_run_does_not_ping(
    pinging: Listener, validibot: Validibot, environment: Settings
) -> None:
    with guard(environment, clear_sessions.name, uuid4()):
        assert run(clear_sessions, as_of=NOW).stopped_because == "skipped"
    assert pinging.paths == []


def test_a_run_that_fails_does_not_ping(pinging: Listener, validibot: Validibot) -> None:
    validibot.session(NOW - DAY)

    def fail(_connection: Any) -> None:
        raise RuntimeError("broken")

    with (
        at_statement(clear_sessions.name, "DELETE FROM django_session", fail),
        pytest.raises(RuntimeError, match="broken"),
    ):
        run(clear_sessions, as_of=NOW)
    assert pinging.paths == []


def test_a_failed_ping_is_a_warning_without_the_address(
    pinging: Listener, validibot: Validibot, caplog: pytest.LogCaptureFixture
) -> None:
    pinging.status = 500
    with maintenance_log(caplog):
        report = run(clear_sessions, as_of=NOW)
    assert report.stopped_because == "drained"
    assert "the success ping to 127.0.0.1 failed: status 500" in caplog.messages
    assert SECRET not in caplog.text


def test_a_ping_that_succeeds_is_not_logged_with_its_address(
    pinging: Listener, validibot: Validibot, caplog: pytest.LogCaptureFixture
) -> None:
    with maintenance_log(caplog):
        run(clear_sessions, as_of=NOW)
    assert len(pinging.paths) == 1
    assert SECRET not in caplog.text


def test_an_unreachable_service_does_not_change_the_result_of_a_run(
    environment: Settings,
    validibot: Validibot,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    point_at(f"http://127.0.0.1:{free_port()}/{SECRET}", monkeypatch)
    with maintenance_log(caplog):
        assert run(clear_sessions, as_of=NOW).stopped_because == "drained"
    assert "the success ping to 127.0.0.1 failed: ConnectError" in caplog.messages
    assert SECRET not in caplog.text


def test_a_service_that_does_not_answer_delays_a_run_by_five_seconds(
    listener: Listener,
) -> None:
    listener.release.clear()
    started = time.monotonic()
    problem = ping(listener.address, "a-job")
    assert problem == "the success ping to 127.0.0.1 failed: ReadTimeout"
    assert TIMEOUT_SECONDS == 5
    assert TIMEOUT_SECONDS <= time.monotonic() - started < 2 * TIMEOUT_SECONDS


@pytest.mark.parametrize(
    "address",
    [
        f"ftp://ping.example/{SECRET}",
        f"ping.example/{SECRET}",
        f"https:///{SECRET}",
        f"https://ping.example:99999/{SECRET}",
        f"https://ping.example/{SECRET}/{{name}}",
        f"https://ping.example/{SECRET} x",
    ],
)
def test_an_invalid_address_is_refused_without_being_shown(
    environment: Settings, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv(VARIABLE, address)
    with pytest.raises(SettingsError, match=f"{VARIABLE}: must be http:// or https://") as error:
        load_settings()
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "address", ["https://ping.example/x", "http://[::1]:8000/{job}?a=b", "https://u:p@ping.example"]
)
def test_a_web_address_is_accepted_and_not_shown(
    environment: Settings, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv(VARIABLE, address)
    current = load_settings()
    assert current.success_ping_url is not None
    assert current.success_ping_url.get_secret_value() == address
    assert address not in repr(current)
