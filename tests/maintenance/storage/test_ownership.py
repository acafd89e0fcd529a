"""What is saved has the owner and mode of its directory, whoever saves it."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from maintenance.storage.local import LocalStore
from maintenance.storage.marker import MARKER
from maintenance.storage.store import Saved
from tests.support.rights import printed_with, setpriv_or_skip

DJANGO, GROUP, OTHER = 101, 102, 1_234
ALL = {"CHOWN", "DAC_OVERRIDE", "FOWNER"}
KEY = "evidence/1/aaaa/manifest.json"

SAVING = """
import json, os, sys
from pathlib import Path
from maintenance.storage.local import LocalStore
os.umask(0o077)
store = LocalStore(Path(sys.argv[1]))
store.write_marker(b"{}")
print(json.dumps([one.error for one in store.save_files([(sys.argv[2], b"x")])]))
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """A root of the application that other users can reach."""
    with tempfile.TemporaryDirectory(prefix="vm-") as name:
        Path(name).chmod(0o755)
        folder = Path(name, "private")
        folder.mkdir()
        yield folder


def seen(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


@pytest.mark.parametrize("user", [0, OTHER])
@pytest.mark.parametrize(
    ("mode", "of_files", "of_marker"),
    [
        (0o755, 0o644, 0o644),
        (0o750, 0o640, 0o644),
        (0o700, 0o600, 0o644),
        (0o2775, 0o664, 0o664),
        (0o777, 0o666, 0o666),
        (0o1777, 0o644, 0o644),
    ],
)
def test_files_folders_and_marker_are_as_their_directory(
    root: Path, mode: int, of_files: int, of_marker: int, user: int
) -> None:
    setpriv_or_skip()
    os.chown(root, DJANGO, GROUP)
    root.chmod(mode)
    assert printed_with(ALL, SAVING, root, KEY, user=user) == [None]
    folders = [root / "evidence", root / "evidence/1", root / "evidence/1/aaaa"]
    assert [seen(path) for path in folders] == [(DJANGO, GROUP, mode)] * 3
    assert seen(root / KEY) == (DJANGO, GROUP, of_files)
    assert seen(root / MARKER) == (DJANGO, GROUP, of_marker)


def test_folders_that_are_there_stay_as_they_are(root: Path) -> None:
    setpriv_or_skip()
    folder = root / "evidence"
    folder.mkdir()
    folder.chmod(0o770)
    os.chown(folder, OTHER, GROUP)
    os.chown(root, DJANGO, DJANGO)
    assert printed_with(ALL, SAVING, root, KEY) == [None]
    assert seen(folder) == (OTHER, GROUP, 0o770)
    assert seen(root / KEY) == (OTHER, GROUP, 0o660)


def test_a_folder_that_a_crash_left_to_another_owner_is_given_away(root: Path) -> None:
    setpriv_or_skip()
    os.chown(root, DJANGO, DJANGO)
    (root / "evidence").mkdir()  # And killed before its owner was changed.
    assert printed_with(ALL, SAVING, root, KEY) == [None]
    assert seen(root / "evidence") == (DJANGO, DJANGO, 0o755)
    assert seen(root / KEY) == (DJANGO, DJANGO, 0o644)


def test_what_may_not_be_given_away_can_be_read(root: Path) -> None:
    setpriv_or_skip()
    os.chown(root, DJANGO, DJANGO)
    root.chmod(0o770)
    assert printed_with({"DAC_OVERRIDE"}, SAVING, root, KEY, user=OTHER) == [None]
    assert seen(root / "evidence") == (OTHER, OTHER, 0o775)
    assert seen(root / KEY) == (OTHER, OTHER, 0o664)


def test_without_rights_everything_is_as_the_directory_of_the_same_user(root: Path) -> None:
    root.chmod(0o750)
    store = LocalStore(root)
    before = os.umask(0o077)
    try:
        assert store.save_files([(KEY, b"x")]) == [Saved(KEY)]
    finally:
        os.umask(before)
        store.close()
    own = os.geteuid(), os.getegid()
    assert seen(root / "evidence/1") == (*own, 0o750)
    assert seen(root / KEY) == (*own, 0o640)
