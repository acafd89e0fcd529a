"""The garbage collector never makes the main thread wait for another thread's lock on SQLite."""

import subprocess
import sys
from pathlib import Path

import pytest

from deployments.collecting import MIDDLE_EVERY, OLD_EVERY, generation

WAIT_SECONDS = 60

STORY = """
import gc, sqlite3, sys, threading, time
from deployments.collecting import collect_in_a_thread

if sys.argv[2] == "aside":
    collect_in_a_thread()

class Node:
    pass

def connect():
    return sqlite3.connect(sys.argv[1], isolation_level=None, check_same_thread=False)

first, second = connect(), connect()
first.execute("PRAGMA journal_mode = WAL")

def wait_for_lock():
    second.execute("PRAGMA busy_timeout = 5000")
    waiting.set()
    try:
        second.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        gave_up.set()

# Garbage that holds a cursor of the second connection in the middle of a statement.
gc.collect()
gc.freeze()
node = Node()
node.itself, node.cursor = node, second.execute("VALUES (1), (2)")
node.cursor.fetchone()

first.execute("BEGIN IMMEDIATE")
waiting, gave_up = threading.Event(), threading.Event()
thread = threading.Thread(target=wait_for_lock, daemon=True)
thread.start()
waiting.wait()
time.sleep(0.5)  # in BEGIN by now
del node
for _ in range(200_000):  # what the collector is set off by
    other = Node()
    other.itself = other
print("stood still" if gave_up.is_set() else "went on", flush=True)
first.execute("ROLLBACK")
thread.join()
"""


@pytest.mark.parametrize(
    ("collector", "outcome"), [("aside", "went on"), ("in the way", "stood still")]
)
def test_a_cursor_found_as_garbage_does_not_hold_up_the_main_thread(
    tmp_path: Path, collector: str, outcome: str
) -> None:
    command = [sys.executable, "-c", STORY, str(tmp_path / "db"), collector]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=True)
    assert done.stdout.strip() == outcome


def test_garbage_of_every_age_is_collected() -> None:
    turns = [generation(turn) for turn in range(1, OLD_EVERY + 1)]
    assert turns.count(2) == 1
    assert turns.count(1) == OLD_EVERY // MIDDLE_EVERY - 1
    assert set(turns) == {0, 1, 2}


def test_it_is_prefects_command_line() -> None:
    command = [sys.executable, "-m", "deployments.collecting", "server", "start", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=True)
    assert "prefect server start" in done.stdout
