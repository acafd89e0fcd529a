"""`python -m flows` on the command line (SPEC 9)."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import URL, Engine, text

from flows.jobs import JOBS
from maintenance.guard import guard
from maintenance.report import Report
from maintenance.settings import Settings
from tests.support.commands import CODE, Command, run_command, run_fresh
from tests.support.validibot import DAY, NOW, Validibot


def environment_of_a_command(**variables: str) -> dict[str, str]:
    """Return nothing but what a command needs, and variables."""
    needed = ("PATH", "HOME", "DATABASE_URL", "STORAGE_ROOT", "PREFECT_HOME")
    return {name: os.environ[name] for name in needed if name in os.environ} | variables


FIRST_WAIT = 45
"""Seconds; less than the first wait before another attempt."""


def flows(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run_command("flows", *arguments, env=environment_of_a_command(**variables))


@pytest.fixture(autouse=True)
def _environment(environment: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds this test's database in its environment, and no profile of Prefect."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))


def test_json_is_one_object_on_standard_output_and_logs_are_elsewhere(
    validibot: Validibot,
) -> None:
    gone = validibot.submission()
    options = ("purge-expired-submissions", "--json", "--as-of", "2026-11-15T12:00:00Z")
    done = run_fresh("flows", *options, env=environment_of_a_command())
    assert done.returncode == 0, done.stderr
    report = Report.model_validate(json.loads(done.stdout))
    assert (report.done, report.as_of) == (1, NOW)
    assert "1 of 1 done" in done.stderr
    assert validibot.purged() == {gone}


def test_without_json_the_report_is_for_people(validibot: Validibot) -> None:
    validibot.session(NOW - DAY)
    done = flows("clear-sessions", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("clear-sessions (dry run: nothing was changed)\nDry run: 1 ")
    assert not re.search(r"[\x1b|*`#]", done.stdout)


def on_a_terminal(*arguments: str, **variables: str) -> str:
    """Return what a command prints on a terminal of 90 columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 90))
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", *arguments],
        env=environment_of_a_command(TERM="xterm", LC_ALL="C.UTF-8", **variables),
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the other side is closed
        while part := os.read(ours, 1 << 16):
            shown += part
    os.close(ours)
    process.wait(60)
    return shown.decode().replace("\r\n", "\n")


def test_9_on_a_terminal_the_report_has_tables_for_people(validibot: Validibot) -> None:
    (validibot.root / "private" / "submissions" / "x").mkdir(parents=True)
    failing = validibot.submission(input_file="submissions/x")
    shown = on_a_terminal("purge-expired-submissions")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert plain != shown
    lines = plain.splitlines()
    assert max(map(len, lines)) <= 90
    assert lines[:2] == ["purge-expired-submissions", "0 of 1 done, 1 failed, 1 still overdue"]
    assert re.search(r"(?m)^ Failed +Cause +What to do *$", plain)
    assert str(failing)[:8] in plain
    assert "──────" in plain
    assert not re.search(r"[|*`#]", plain)


def test_it_works_beside_an_address_where_no_server_answers(validibot: Validibot) -> None:
    validibot.session(NOW - DAY)
    done = flows("clear-sessions", "--json", PREFECT_API_URL="http://u:pw@127.0.0.1:1/api")
    assert done.returncode == 0, done.stderr
    said = "without a Prefect server: no Prefect server answers at http://127.0.0.1:1/api (Connect"
    assert f"python -m flows: {said}" in done.stderr
    assert json.loads(done.stdout)["done"] == 1


def test_9_by_hand_a_wrong_host_fails_at_once(database_url: URL) -> None:
    wrong = "postgresql://u:hidden-password@127.0.0.1:1/x"
    done = run_command(
        *("flows", "clear-sessions", "--json"),
        env=environment_of_a_command(DATABASE_URL=wrong),
        timeout=FIRST_WAIT,
    )
    assert done.returncode == 1
    assert "Connection refused" in object_of(done)["message"]
    assert "hidden-password" not in done.stderr + done.stdout


def test_9_with_retry_it_waits_and_says_that_ctrl_c_ends_the_run() -> None:
    wrong = "postgresql://u:hidden-password@127.0.0.1:1/x"
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "clear-sessions", "--retry", "--json"],
        env=environment_of_a_command(DATABASE_URL=wrong),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = next(line for line in process.stderr if "Ctrl-C" in line)
    assert "Connection refused" in said
    assert said.endswith("the next attempt is in about 60 s, Ctrl-C ends the run\n")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=FIRST_WAIT)
    assert process.returncode == 130
    assert json.loads(output)["stopped_because"] == "cancelled"


def test_failed_items_end_with_status_1_and_are_named(validibot: Validibot) -> None:
    (validibot.root / "private" / "submissions" / "x").mkdir(parents=True)
    failing = validibot.submission(input_file="submissions/x")
    done = flows("purge-expired-submissions", "--json")
    assert done.returncode == 1
    (failure,) = json.loads(done.stdout)["failures"]
    assert failure["item"] == f"submission {failing}"


def test_a_run_that_fails_ends_with_status_1_and_one_clear_line(validibot: Validibot) -> None:
    shutil.rmtree(validibot.root / "private")
    done = flows("purge-expired-submissions")
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("purge-expired-submissions failed: storage root")


def object_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    (line,) = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["clear-sessions", "--batch-size", "0"], "ParameterError"),
        (["clear-sessions", "--as-of", "2999-01-01T00:00:00Z"], "ParameterError"),
        (["clear-sessions", "--no-such-option"], "ParameterError"),
        (["cleanup-callback-receipts", "--days", "0"], "ParameterError"),
        (["no-such-job"], "ParameterError"),
        ([], "ParameterError"),
    ],
)
def test_9_with_json_bad_options_are_one_object(
    validibot: Validibot, arguments: list[str], error: str
) -> None:
    done = flows(*arguments, "--json")
    assert done.returncode == 2
    found = object_of(done)
    assert (found["stopped_because"], found["error"]) == ("error", error)
    assert found["message"] in " ".join(done.stderr.split())


def test_9_with_json_a_wrong_setting_is_one_object() -> None:
    done = flows("clear-sessions", "--json", DATABASE_URL="mysql://user:hunter2@host/name")
    assert done.returncode == 2
    found = object_of(done)
    assert (found["job"], found["error"]) == ("clear-sessions", "SettingsError")
    assert "DATABASE_URL" in found["message"]
    assert "hunter2" not in done.stdout


def test_9_with_json_a_schema_that_does_not_match_is_one_object(
    validibot: Validibot, database: Engine
) -> None:
    with database.begin() as connection:
        connection.execute(text("DROP TABLE django_session"))
    done = flows("clear-sessions", "--json")
    assert done.returncode == 1
    found = object_of(done)
    assert (found["job"], found["error"]) == ("clear-sessions", "SchemaMismatch")
    assert "django_session" in found["message"]


def test_9_with_json_a_run_that_is_skipped_is_one_object(
    validibot: Validibot, environment: Settings
) -> None:
    with guard(environment, "clear-sessions", uuid4()):
        done = flows("clear-sessions", "--json")
    assert done.returncode == 0
    assert Report.model_validate(object_of(done)).stopped_because == "skipped"


def test_9_with_json_a_database_that_cannot_be_used_is_one_object(
    environment: Settings, database_url: URL
) -> None:
    absent = database_url.set(database="absent").render_as_string(hide_password=False)
    done = flows("clear-sessions", "--json", DATABASE_URL=absent)
    assert done.returncode == 1
    found = object_of(done)
    assert (found["stopped_because"], found["error"]) == ("error", "DatabaseError")
    assert 'database "absent" does not exist' in found["message"]


def test_9_with_json_a_run_that_fails_in_its_work_is_one_object_with_its_report(
    validibot: Validibot,
) -> None:
    shutil.rmtree(validibot.root / "private")
    validibot.submission()
    done = flows("purge-expired-submissions", "--json")
    assert done.returncode == 1
    found = object_of(done)
    assert (found["error"], found["stopped_because"]) == ("StorageError", "error")
    assert found["message"].startswith("storage root")
    assert (found["dry_run"], found["done"]) == (False, 0)


UNEXPECTED = """
import sys
import flows.clear_sessions
from flows.__main__ import main

def broken(_run):
    raise ZeroDivisionError("a defect")

flows.clear_sessions.delete_by_age = broken
sys.exit(main(["clear-sessions", "--json"]))
"""


def test_9_with_json_an_unexpected_error_is_one_object_and_its_traceback_is_logged(
    validibot: Validibot,
) -> None:
    done = run_command(CODE, UNEXPECTED, env=environment_of_a_command())
    assert done.returncode == 1
    found = object_of(done)
    assert (found["job"], found["error"]) == ("clear-sessions", "ZeroDivisionError")
    assert found["message"] == "a defect"
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_9_with_json_a_signal_before_the_first_batch_is_one_object(
    validibot: Validibot, database: Engine, number: signal.Signals, status: int
) -> None:
    watching = database.execution_options(isolation_level="AUTOCOMMIT")
    with watching.connect() as watch, database.begin() as connection:
        # The run waits for the lock in its first statement about the table.
        connection.execute(text("LOCK TABLE submissions_submission"))
        variables = environment_of_a_command(MAINTENANCE_LOCK_TIMEOUT_SECONDS="60")
        process = Command("flows", "purge-expired-submissions", "--json", env=variables)
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )
        while not watch.execute(waiting).scalar_one():  # a transaction would see one snapshot
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    found = json.loads(output)
    assert (found["stopped_because"], found["done"]) == ("cancelled", 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["clear-sessions", "--batch-size", "0"], "--batch-size 0: must be at least 1\n"),
        (["clear-sessions", "--batch-size", "x"], "--batch-size x: must be a whole number\n"),
        (["clear-sessions", "--batch-size", "1.5"], "--batch-size 1.5: must be a whole number\n"),
        (["clear-sessions", "--batch-size", "5000000"], "5000000: must be at most 1,000,000\n"),
        (["clear-sessions", "--time-budget", "-5"], "--time-budget -5: must be above 0\n"),
        (["clear-sessions", "--time-budget", "nan"], "nan: must be at most 86,400\n"),
        (["clear-sessions", "--time-budget", "long"], "long: must be a number\n"),
        (["clear-sessions", "--as-of", "tomorrow"], "--as-of tomorrow: must be a time, such as 20"),
        (["clear-sessions", "--as-of", "2026-13-01"], "2026-13-01: must be a time, such as 20"),
        (
            ["clear-sessions", "--max-batches", "0", "--batch-size", "0"],
            "--batch-size 0: must be at least 1; --max-batches 0: must be at least 1\n",
        ),
        (["clear-sessions", "--as-of", "2999-01-01T00:00:00Z"], "lies in the future"),
        (["clear-sessions", "--no-such-option"], "unrecognized arguments"),
        (["no-such-job"], "invalid choice"),
        ([], "name a JOB"),
    ],
)
def test_bad_options_end_with_status_2_and_change_nothing(
    validibot: Validibot, arguments: list[str], said: str
) -> None:
    validibot.session(NOW - DAY)
    before = validibot.snapshot()
    done = flows(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert not re.search("Input should|pydantic|Flow run received", done.stderr)
    assert validibot.snapshot() == before


def test_a_wrong_setting_ends_with_status_2_and_never_shows_what_it_held() -> None:
    done = flows("clear-sessions", DATABASE_URL="mysql://user:hunter2@host/name")
    assert done.returncode == 2
    assert "DATABASE_URL" in done.stderr
    assert "hunter2" not in done.stderr


def test_the_list_names_every_job_with_its_schedule() -> None:
    done = flows("--list")
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert set(lines) == set(JOBS)
    assert all(JOBS[name].schedule in line for name, line in lines.items())


@pytest.mark.parametrize("job", sorted(JOBS))
def test_every_parameter_is_an_option_with_a_help_text(job: str) -> None:
    done = flows(job, "--help")
    properties = JOBS[job].flow.parameters.properties
    shown = " ".join(done.stdout.split())
    for name, schema in properties.items():
        assert "--" + name.replace("_", "-") in done.stdout
        assert " ".join(schema["description"].split()) in shown
