"""A forked command (`tests/support/commands.py`) behaves like a fresh process."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.command_server import ROOT
from tests.support.commands import CODE, Command, run_command, run_fresh

WAITS = "import time; time.sleep(60)"
FAILS = "import atexit; atexit.register(print, 'at exit'); raise ZeroDivisionError('boom')"
STATE = "tests.support.process_state"
PROFILES = """
active = "mine"
[profiles.mine]
PREFECT_LOGGING_LEVEL = "WARNING"
"""
OWN = "LC_CTYPE"
"""Set by the interpreter when it starts without a locale."""


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({}, id="settings as they are"),
        pytest.param(
            {
                "PREFECT_API_URL": "http://127.0.0.1:1/api",
                "PREFECT_HOME": "home",
                "PYTHONIOENCODING": "latin-1:replace",
                "PYTHONUNBUFFERED": "1",
            },
            id="settings made anew",
        ),
    ],
)
def test_its_state_is_that_of_a_fresh_process(tmp_path: Path, variables: dict[str, str]) -> None:
    directory = tmp_path if variables else ROOT
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "profiles.toml").write_text(PROFILES)
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"PYTHONPATH": str(ROOT)} | variables
    found = []
    fresh, forked = (
        run(STATE, "one", "two words", cwd=directory, env=environment)
        for run in (run_fresh, run_command)
    )
    for done in (fresh, forked):
        state = json.loads(done.stdout)
        state["environment"].pop(OWN, None)
        found.append(state)
    assert found[1] == found[0]
    assert (forked.returncode, forked.stderr) == (0, fresh.stderr)
    assert forked.args == fresh.args


@pytest.mark.parametrize("name", ["PREFECT_FLOWS_DEFAULT_RETRIES", "PYTHONWARNINGS"])
def test_what_only_a_fresh_process_obeys_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} needs a fresh process"):
        Command(STATE, env={name: "1"})


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_signal_reaches_it_and_is_its_status(number: signal.Signals) -> None:
    process = Command(CODE, WAITS)
    assert process.poll() is None
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    assert process.wait(10) == -number
    process.communicate()


def test_it_ends_as_the_interpreter_ends_a_process() -> None:
    process = Command(CODE, FAILS)
    output, errors = process.communicate(10)
    assert process.returncode == 1
    assert output == "at exit\n"
    assert errors.endswith("ZeroDivisionError: boom\n")
