"""What all commands have in common: options, output, proxies and how they end (SPEC 9)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from maintenance.proxies import pass_by_proxies
from tests.support.commands import run_command, without_prefect

SERVER = pytest.mark.server
"""It would start servers; here it starts none."""
COMMANDS = (
    *("flows", "maintenance", "deployments", "deployments.worker", "deployments.watch"),
    *(pytest.param("demo", marks=SERVER), "demo.sample"),
)
READER_GONE = 141


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["flows", "cleanup-orphaned-containers"], "--rem"),
        (["flows"], "--li"),
        (["maintenance", "check"], "--js"),
        (["maintenance", "import-beat-schedules"], "--take"),
        (["maintenance", "storage", "adopt"], "--fo"),
        (["deployments"], "--reset"),
        (["deployments.worker"], "--poo=x"),
        (["deployments.watch"], "--onc"),
        pytest.param(["demo"], "--onc", marks=SERVER),
        (["demo.sample"], "--sub=1"),
    ],
)
def test_9_an_abbreviated_option_is_refused(command: list[str], option: str) -> None:
    done = run_command(*command, option, env=without_prefect())
    assert done.returncode == 2
    assert option in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_9_what_the_outputs_encoding_lacks_is_escaped(command: str, tmp_path: Path) -> None:
    variables = without_prefect(PYTHONIOENCODING="ascii", PREFECT_HOME=str(tmp_path))
    done = run_command(command, "--help", env=variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


ODD = "import sys; from maintenance.command_line import *; run_command(lambda: say('\\u2026') or 0)"


def test_9_text_that_the_encoding_lacks_does_not_end_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ODD],
        env=without_prefect(PYTHONIOENCODING="latin-1"),
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"\\u2026\n", b"")


@pytest.mark.parametrize(
    "arguments",
    [
        ["flows", "--list"],
        ["flows", "--help"],
        ["maintenance", "check", "--help"],
        ["maintenance.grants"],
        ["deployments", "--help"],
        pytest.param(["demo", "--help"], marks=SERVER),
    ],
)
def test_9_a_reader_that_ends_early_sees_no_traceback(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            env=without_prefect(PYTHONUNBUFFERED=""),
            stdout=gone,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (READER_GONE, b"")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "all_proxy"])
def test_a_server_on_this_machine_is_asked_without_a_proxy(name: str) -> None:
    environment = {name: "http://proxy:3128", "NO_PROXY": "intern, 127.0.0.1"}
    pass_by_proxies(environment)
    assert environment[name] == "http://proxy:3128"
    assert environment["NO_PROXY"] == environment["no_proxy"] == "intern,127.0.0.1,localhost,::1"


def test_a_socks_proxy_that_no_client_can_use_is_left_out() -> None:
    environment = {"ALL_PROXY": "socks5://proxy:1080", "http_proxy": "http://proxy:3128"}
    pass_by_proxies(environment)
    assert set(environment) == {"http_proxy", "no_proxy", "NO_PROXY"}


@pytest.mark.parametrize("given", [{}, {"HTTP_PROXY": ""}, {"HTTP_PROXY": "x", "no_proxy": "*"}])
def test_without_a_proxy_or_an_exception_nothing_is_changed(given: dict[str, str]) -> None:
    environment = dict(given)
    pass_by_proxies(environment)
    assert environment == given
