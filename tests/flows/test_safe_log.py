"""Text from outside in logs and on the terminal is escaped, whoever writes it (SPEC 10, 2.7)."""

import io
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import task
from prefect.engine import handle_engine_signals

from flows import job
from flows.engine import health_address, wait_for_server
from flows.purge_expired_submissions import purge_expired_submissions
from flows.run import safe_log
from flows.run.final_state import ItemsFailed, RunStopped, UnfinishedRun
from maintenance.report import Report
from maintenance.settings import Settings
from tests.support.runs import offline, run
from tests.support.validibot import NOW, Validibot

ROOT = Path(__file__).parents[2]
ATTACK = "a\x1b[2J\u202eb"
SHOWN = "a\\x1b[2J\\u202eb"


@task
def failing(error: OSError) -> None:
    raise error


@pytest.mark.parametrize("kind", [ItemsFailed, RunStopped])
def test_2_7_the_engine_shows_no_traceback_of_a_run_that_ended_by_its_own_decision(
    kind: type[UnfinishedRun],
) -> None:
    engine, shown = logging.getLogger("prefect.engine"), io.StringIO()
    handler = logging.StreamHandler(shown)
    engine.addHandler(handler)
    try:
        with pytest.raises(SystemExit), handle_engine_signals(uuid4()):
            raise kind(Report(job="a-job", dry_run=False, as_of=datetime.now(UTC)))
        assert shown.getvalue() == ""
        with pytest.raises(SystemExit), handle_engine_signals(uuid4()):
            raise ZeroDivisionError
        assert "Traceback" in shown.getvalue()
    finally:
        engine.removeHandler(handler)


def test_10_15_every_failed_item_is_logged_at_error_also_those_that_the_report_omits(
    environment: Settings, validibot: Validibot, caplog: pytest.LogCaptureFixture
) -> None:
    (validibot.root / "private/submissions/x").mkdir(parents=True)
    failing = {validibot.submission(input_file="submissions/x") for _ in range(25)}
    report = run(purge_expired_submissions, as_of=NOW)
    assert (report.failed, len(report.failures)) == (25, 20)
    errors = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    lines = [one for one in errors if " failed: storage root" in one]
    assert len(lines) == 25
    for one in failing:
        (line,) = (line for line in lines if f"submission {one} failed" in line)
        assert "tried 1 time so far, the next attempt is after 20" in line
        assert "private: submissions/x: is a directory" in line


@pytest.mark.parametrize("error", [OSError(ATTACK), OSError(5, ATTACK, ATTACK)], ids=str)
def test_an_error_that_is_not_ours_is_escaped_in_the_log_of_a_task(
    error: OSError, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job is not None  # the module that every flow imports installs the filter
    with offline(), pytest.raises(OSError, match="a"):
        failing(error)
    shown = caplog.text + capsys.readouterr().err
    assert SHOWN in shown
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown


def test_the_filter_is_installed_once() -> None:
    logger = logging.getLogger(safe_log.LOGGERS[0])
    before = list(logger.filters)
    safe_log.install()
    assert logger.filters == before


@pytest.fixture
def hostile() -> Iterator[str]:
    """A server whose reason for a refusal holds an escape sequence."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 503 a\x1b[2Jb\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        thread.join(timeout=10)


def test_what_a_server_says_is_escaped_before_a_run(
    hostile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not wait_for_server(health_address(hostile), 0.0)
    said = capsys.readouterr().err
    assert "503: a\\x1b[2Jb" in said
    assert "\x1b" not in said


@pytest.mark.server
def test_the_demo_escapes_what_it_prints(tmp_path: Path) -> None:
    blocked = tmp_path / ATTACK
    blocked.write_text("a file")
    command = [sys.executable, "-m", "demo", "--directory", str(blocked / "demo")]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert SHOWN in done.stderr.decode()
    assert b"\x1b" not in done.stderr
