"""Tests run side by side, but not those of one group; and what a test starts, it is marked for."""

import os
import subprocess
import sys
from collections import defaultdict
from itertools import islice
from pathlib import Path

import pytest

from tests.support.crash_points import SAMPLE, crash_points
from tests.support.distribution import LONGEST_FIRST, NICENESS, OTHERS
from tests.support.unmarked import Unmarked, marker_for

ROOT = Path(__file__).parents[1]
TESTS = """
import os, pytest

def note(name):
    with open("notes", "a") as notes:
        notes.write(f"{name} {os.getpid()}\\n")

@pytest.mark.parametrize("number", range(8))
@pytest.mark.xdist_group("first")
def test_first(number):
    note("first")

@pytest.mark.parametrize("number", range(8))
@pytest.mark.xdist_group("second")
def test_second(number):
    note("second")
"""


def test_the_tests_of_a_group_run_in_one_process_and_groups_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "test_groups.py").write_text(TESTS)
    (tmp_path / "pytest.ini").touch()
    options = ("-q", "-n", "2", "-p", "tests.conftest", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "16 passed" in done.stdout
    processes = defaultdict(set)
    for line in (tmp_path / "notes").read_text().splitlines():
        name, process = line.split()
        processes[name].add(process)
    assert [len(found) for found in processes.values()] == [1, 1]
    assert len(set.union(*processes.values())) == 2


def test_no_group_of_a_higher_priority_comes_after_one_of_a_lower() -> None:
    """The priority of a worker process can only be lowered."""
    order = [NICENESS.get(group, OTHERS) for group in LONGEST_FIRST]
    assert order == sorted(order)
    assert set(NICENESS) <= set(LONGEST_FIRST)


@pytest.mark.parametrize(
    ("command", "marker"),
    [
        (["python", "-m", "deployments.collecting", "server", "start", "--port", "1"], "server"),
        (["python", "-m", "prefect", "server", "start"], "server"),
        (["python", "-m", "uvicorn", "--factory", "prefect.server.api.server:app"], "server"),
        (["python", "-m", "demo", "--size", "200"], "server"),
        (["/usr/bin/chromium", "--headless"], "browser"),
        (["/lib/playwright/driver/node", "cli.js", "run-driver"], "browser"),
        (["python", "-m", "prefect", "server", "start", "--help"], None),
        (["python", "-m", "demo.sample"], None),
        (["python", "-m", "flows", "clear-sessions"], None),
        (["python", "-m", "prefect", "worker", "start"], None),
    ],
)
def test_programs_that_take_long_to_start_need_a_marker(
    command: list[str], marker: str | None
) -> None:
    assert marker_for(command) == marker


def test_a_test_without_the_marker_cannot_start_a_prefect_server() -> None:
    with pytest.raises(Unmarked, match="mark it with `server`"):
        subprocess.Popen(["prefect", "server", "start"])


def test_a_sample_of_crash_points_is_the_same_for_the_same_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def drawn(choice: str, name: str = "a-job") -> list[int]:
        monkeypatch.setenv("CRASHES", choice)
        return list(islice(crash_points(name, lambda: 200), SAMPLE + 2))

    assert drawn("1") == drawn("1")
    assert drawn("1") != drawn("2")
    assert drawn("1") != drawn("1", "another-job")
    assert drawn("1") == sorted(set(drawn("1")))
    # After the sample comes a run that is not killed.
    assert drawn("1")[-2:] == [200, 201]
    assert drawn("all") == list(range(SAMPLE + 2))
