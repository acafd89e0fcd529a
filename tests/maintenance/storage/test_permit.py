"""Deleting ends at once when the claim is lost (SPEC 10.2)."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maintenance.storage.bucket import BucketStore
from maintenance.storage.local import LocalStore
from maintenance.storage.permit import Permit
from maintenance.storage.store import Store, Tree
from tests.support.gcs_server import GcsServer
from tests.support.s3_server import S3Server
from tests.support.stores import Place, S3Place, make_place
from tests.support.trees import files, make_files

FILES = 200

FROZEN = """
import sys
from pathlib import Path
from maintenance.storage.local import LocalStore
from maintenance.storage.permit import Permit
from maintenance.storage.store import Tree

root, ticket = map(Path, sys.argv[1:])
seen = 0

def ask():
    if not ticket.exists():
        raise RuntimeError("the claim is lost")

def keep(parts, is_directory):
    global seen
    seen += 1
    if seen == 50:
        print("half way", flush=True)
        sys.stdin.readline()
    return False

permit = Permit(ask)
try:
    LocalStore(root).remove_trees([Tree("runs/1/2", keep)], permit)
except RuntimeError as error:
    print(error)
"""


class LostError(Exception):
    """The claim is lost."""


def losing(after: int) -> Permit:
    """A permit that is asked before each deletion, and withdrawn after so many."""
    asked: list[None] = []
    lock = threading.Lock()

    def ask() -> None:
        with lock:
            if len(asked) == after:
                raise LostError
            asked.append(None)

    return Permit(ask, fresh_seconds=0)


@pytest.fixture(params=["local", "s3", "s3-versioned", "gcs"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, servers: tuple[S3Server, GcsServer]
) -> Place:
    return make_place(request.param, tmp_path, servers)


@pytest.fixture
def opened(place: Place) -> Iterator[Store]:
    found = place.open("private/")
    yield found
    found.close()


def on_files(store: Store, permit: Permit) -> object:
    return store.remove_files([f"runs/1/2/{number}" for number in range(FILES)], permit)


def on_a_tree(store: Store, permit: Permit) -> object:
    return store.remove_trees([Tree("runs/1/2")], permit)


@pytest.mark.parametrize("act", [on_files, on_a_tree])
def test_10_2_nothing_is_deleted_after_the_permit_is_withdrawn(
    place: Place, opened: Store, act: Callable[[Store, Permit], object]
) -> None:
    """In two threads for the files of a folder; a bulk request of a bucket is one deletion."""
    for number in range(FILES):
        place.put(f"private/runs/1/2/{number}")
    asks = 50
    each = 1
    if isinstance(opened, BucketStore) and isinstance(place, S3Place):
        bucket = place.bucket()
        bucket.bulk, asks, each = 20, 3, 20
        opened = BucketStore(bucket, "private/")
    permit = losing(asks)
    with pytest.raises(LostError):
        act(opened, permit)
    left = place.held()
    assert len(left) == FILES - asks * each
    with pytest.raises(LostError):
        act(opened, permit)
    assert place.held() == left
    act(opened, Permit(lambda: None))
    assert place.held() == set()


def test_10_2_the_empty_directories_stay_too(store: LocalStore, root: Path) -> None:
    make_files(root, ["up/2026/11/a"])
    with pytest.raises(LostError):
        store.remove_files(["up/2026/11/a"], losing(1))
    assert (root / "up/2026/11").is_dir()
    make_files(root, ["runs/1/2/sub/"])
    with pytest.raises(LostError):
        store.remove_trees([Tree("runs/1/2")], losing(0))
    assert (root / "runs/1/2/sub").is_dir()


def test_10_2_a_process_that_was_stopped_asks_again_before_it_goes_on(tmp_path: Path) -> None:
    root, ticket = tmp_path / "root", tmp_path / "ticket"
    make_files(root, [f"runs/1/2/{number}" for number in range(FILES)])
    ticket.touch()
    with subprocess.Popen(
        [sys.executable, "-c", FROZEN, str(root), str(ticket)],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == "half way\n"
        left = files(root)
        child.send_signal(signal.SIGSTOP)
        ticket.unlink()
        # So long the last answer would have been good; the process does not run meanwhile.
        threading.Event().wait(0.6)
        child.send_signal(signal.SIGCONT)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "the claim is lost\n"
    assert files(root) == left
    assert len(left) == FILES - 49


def test_10_2_an_answer_is_good_for_a_while_and_a_refusal_for_ever() -> None:
    answers = iter([None, LostError(), None])
    asked: list[None] = []

    def ask() -> None:
        asked.append(None)
        if (answer := next(answers)) is not None:
            raise answer

    permit = Permit(ask, fresh_seconds=3_600)
    permit.check()
    permit.check()
    assert len(asked) == 1
    refused = Permit(ask)
    for _ in range(2):
        with pytest.raises(LostError):
            refused.check()
    assert len(asked) == 2


def test_10_2_one_thread_asks_for_all(tmp_path: Path) -> None:
    asking = threading.Lock()
    asked: list[None] = []

    def ask() -> None:
        assert asking.acquire(blocking=False)
        asked.append(None)
        asking.release()

    permit = Permit(ask, fresh_seconds=3_600)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: permit.check(), range(400)))
    assert len(asked) == 1


def test_10_2_an_answer_is_as_old_as_its_question() -> None:
    """While the database takes its time to answer, the claim may be lost."""
    asked: list[None] = []

    def ask() -> None:
        asked.append(None)
        threading.Event().wait(0.05)

    permit = Permit(ask, fresh_seconds=0.04)
    permit.check()
    permit.check()
    assert len(asked) == 2
