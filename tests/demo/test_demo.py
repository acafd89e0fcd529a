"""The demo as a user runs it: from the command line, in a folder of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import psutil
import pytest

from demo.__main__ import RUNS
from demo.environment import PROJECT, clean_environment
from tests.support.memory import temporary_folder

pytestmark = pytest.mark.xdist_group("servers of the demo")

FULL_SECONDS = 120
STOP_SECONDS = 20
SERVED = "The schedules are being served"
FIRST_RUN = "$ prefect deployment run"

# What may be set in the shell of a user who tries the demo, and must not reach it.
FOREIGN = {
    "PREFECT_API_URL": "http://127.0.0.1:1/api",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://nobody@127.0.0.1:1/none",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "STORAGE_ROOT": "/nowhere",
    "PGHOST": "127.0.0.1",
    "PGPORT": "1",
    "HTTP_PROXY": "http://127.0.0.1:1",
}


class Demo:
    """A demo that was started in a folder."""

    def __init__(self, directory: Path, output: Path, *options: str) -> None:
        self.output = output
        command = [sys.executable, "-m", "demo", "--size", "200"]
        with output.open("wb") as stdout, self.errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*command, "--directory", str(directory), *options],
                cwd=output.parent,
                env=os.environ | FOREIGN | {"PYTHONPATH": str(PROJECT)},
                stdout=stdout,
                stderr=stderr,
            )

    @property
    def errors(self) -> Path:
        return self.output.with_suffix(".err")

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + FULL_SECONDS
        while text not in self.output.read_text():
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.1)

    def end(self, number: signal.Signals, seconds: float = STOP_SECONDS) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with temporary_folder() as name:
        yield Path(name).resolve() / "demo"


@pytest.fixture
def start(directory: Path, tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    numbers = count()
    started: list[Demo] = []

    def start_demo(*options: str) -> Demo:
        started.append(Demo(directory, tmp_path / f"{next(numbers)}.out", *options))
        return started[-1]

    yield start_demo
    for demo in started:
        if demo.process.poll() is None:
            demo.end(signal.SIGTERM)
    for process in processes_of(directory):
        with suppress(psutil.Error):
            process.kill()


def processes_of(directory: Path) -> set[psutil.Process]:
    """Every process that has the folder in its command line or its environment."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            words = [*process.cmdline(), *process.environ().values()]
            if process.pid != os.getpid() and any(str(directory) in word for word in words):
                found.add(process)
    return found


def counts(output: str, label: str) -> tuple[int, int]:
    found = re.search(rf"^{label} +([\d,]+) +([\d,]+)$", output, re.MULTILINE)
    assert found is not None, output
    before, after = (int(number.replace(",", "")) for number in found.groups())
    return before, after


@pytest.mark.server
@pytest.mark.slow
def test_once_purges_what_is_expired_leaves_the_rest_and_leaves_no_process(
    start: Callable[..., Demo], directory: Path
) -> None:
    begun = datetime.now(UTC)
    demo = start("--once")
    status = demo.process.wait(FULL_SECONDS)
    output = demo.output.read_text()
    assert (status, demo.errors.read_text()) == (0, ""), output
    assert processes_of(directory) == set()

    before, after = counts(output, "submissions with content past their deadline")
    assert before > 0
    assert after == 0
    kept, still_kept = counts(output, "  kept, because a run is still active")
    assert kept >= still_kept > 0
    before, after = counts(output, "runs that were ended because they hung")
    assert before == 0
    assert after > 0
    before, after = counts(output, "expired sessions")
    assert before > 0
    assert after == 0
    before, after = counts(output, "files")
    assert before > after > 0

    assert (
        output.count("/runs/flow-run/") == output.count("  report: http://127.0.0.1:") == len(RUNS)
    )
    with_login = r"^Prefect's UI: http://127\.0\.0\.1:\d+ \(log in with demo:[0-9a-f]{32}\)$"
    assert re.search(with_login, output, re.MULTILINE)
    if datetime.now(UTC).hour == begun.hour:  # else the scheduled purge may have been faster
        assert output.count("Completed") == len(RUNS)
        found = re.search(r"Dry run: (\d+) selected", output)
        assert found is not None
        assert f"{found[1]} of {found[1]} done" in output


@pytest.mark.server
@pytest.mark.slow
def test_after_a_kill_the_next_demo_starts_fresh_and_ctrl_c_ends_it(
    start: Callable[..., Demo], directory: Path
) -> None:
    killed = start()
    killed.wait_for(FIRST_RUN)

    refused = start()
    assert refused.process.wait(STOP_SECONDS) == 1
    (line,) = refused.errors.read_text().splitlines()
    assert f"a demo is running in {directory} already (process {killed.process.pid})" in line
    assert killed.process.poll() is None

    killed.end(signal.SIGKILL)
    orphans = processes_of(directory)
    assert orphans

    served = start()
    served.wait_for(SERVED)
    assert not any(process.is_running() for process in orphans)
    assert served.end(signal.SIGINT) == 0
    assert served.errors.read_text() == ""
    assert processes_of(directory) == set()


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGINT, "Starting PostgreSQL"), (signal.SIGTERM, "Starting a Prefect server")],
)
def test_a_signal_while_it_starts_ends_it_with_one_line(
    start: Callable[..., Demo], directory: Path, number: signal.Signals, moment: str
) -> None:
    demo = start()
    demo.wait_for(moment)
    assert demo.end(number) == 130
    assert len(demo.errors.read_text().splitlines()) == 1
    assert processes_of(directory) == set()


@pytest.mark.server
def test_a_folder_that_is_not_a_demos_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "letter").write_text("dear")
    demo = Demo(folder, tmp_path / "out")
    assert demo.process.wait(STOP_SECONDS) == 1
    (line,) = demo.errors.read_text().splitlines()
    assert "neither empty nor a demo's" in line
    assert [path.name for path in folder.iterdir()] == ["letter"]


def test_nothing_foreign_is_left_in_the_environment_of_a_child(tmp_path: Path) -> None:
    kept = {"HOME": "/home/alice", "PATH": "/usr/bin", "LANG": "C.UTF-8", "CI_WORK": "1"}
    environment = clean_environment(FOREIGN | kept, tmp_path)
    assert not (FOREIGN.keys() - {"HTTP_PROXY"}) & environment.keys()
    assert environment["NO_PROXY"] == "127.0.0.1,localhost"
    assert environment["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
    assert {name: environment[name] for name in ("HOME", "LANG", "CI_WORK")} == {
        name: kept[name] for name in ("HOME", "LANG", "CI_WORK")
    }
