"""The preflight of the rights, with real other users: what it says is what a purge then meets."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from maintenance.checks.rights import check_rights
from maintenance.storage.capabilities import CHOWN, DAC_OVERRIDE, FOWNER, NUMBERS
from maintenance.storage.probe import PREFIX, VALIDATOR
from tests.support.rights import NOBODY, printed_with, setpriv_or_skip

DJANGO, OTHER = 101, 1_234
ALL = frozenset(NUMBERS)
SUBSETS = [set(chosen) for number in range(4) for chosen in combinations(sorted(ALL), number)]

CHECKED = """
import json, sys
from pathlib import Path
from maintenance.checks.rights import check_rights
found = check_rights("rights", Path(sys.argv[1]), sys.argv[2] == "True")
print(json.dumps([str(found.level), found.text, found.action]))
"""
PURGED = """
import json, sys
from pathlib import Path
from maintenance.storage.local import LocalStore
from maintenance.storage.store import Tree
store = LocalStore(Path(sys.argv[1]))
(deleted,) = store.remove_trees([Tree("runs/1/a")])
print(json.dumps([deleted.files, deleted.error]))
"""
BOTH = """
import json, sys
from pathlib import Path
from maintenance.checks.rights import check_rights
from maintenance.storage.local import LocalStore
from maintenance.storage.store import Tree
from tests.support.trees import state
root = Path(sys.argv[1])
before = state(root)
found = check_rights("rights", root, True)
after = state(root)
after[str(root)] = before[str(root)]  # It had an entry more, so its times are others.
(deleted,) = LocalStore(root).remove_trees([Tree("runs/1/a")])
said = [str(found.level), found.text, found.action]
print(json.dumps([said, after == before, deleted.files, deleted.error]))
"""
KILLED = """
import os, sys
from pathlib import Path
from maintenance.checks import rights
from maintenance.storage import probe
probe.save_files = lambda *_: os.kill(os.getpid(), 9)
rights.check_rights("rights", Path(sys.argv[1]), True)
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """A storage root that every user of this machine can reach, as large as a purge needs it."""
    with tempfile.TemporaryDirectory(prefix="vm-") as name:
        folder = Path(name, "private")
        Path(name).chmod(0o755)
        folder.mkdir()
        folder.chmod(0o755)
        yield folder


def make_bundle(root: Path) -> None:
    """A run as Validibot's user and a validator's container leave it."""
    output = root / "runs/1/a/attempts/b/output"
    (output / "outputs").mkdir(parents=True)
    (output / "outputs" / "report.html").write_text("1")
    (root / "runs/1/a/input.json").write_text("2")
    output.chmod(0o1777)
    for path in (root, *root.rglob("*")):
        os.chown(path, DJANGO, DJANGO)
    for path in (output / "outputs", output / "outputs" / "report.html"):
        os.chown(path, VALIDATOR, VALIDATOR)


def checked(root: Path, capabilities: frozenset[str] | set[str], **options: Any) -> list[str]:
    found: list[str] = printed_with(capabilities, CHECKED, root, True, **options)
    return found


@pytest.mark.parametrize("user", [0, OTHER])
@pytest.mark.parametrize("held", SUBSETS, ids=lambda held: "+".join(sorted(held)) or "none")
def test_it_names_what_is_missing_and_a_purge_fails_exactly_then(
    root: Path, held: set[str], user: int
) -> None:
    setpriv_or_skip()
    make_bundle(root)
    found, unchanged, files, problem = printed_with(held, BOTH, root, user=user)
    level, text, action = found
    assert unchanged
    assert level == ("ok" if held == ALL else "error"), text
    assert {one for one in NUMBERS if one in text} == ALL - held
    assert ("cap" in action) is (held != ALL)
    if {DAC_OVERRIDE, FOWNER} <= held:
        assert (files, problem) == (2, None)
    else:
        assert problem.endswith((": Permission denied", ": Operation not permitted")), problem


@pytest.mark.parametrize("user", [DJANGO, VALIDATOR])
def test_neither_of_validibots_users_can_delete_what_the_other_made(root: Path, user: int) -> None:
    setpriv_or_skip()
    make_bundle(root)
    level, text, _ = checked(root, set(), user=user)
    assert level == "error"
    assert text.endswith(f"files of user {DJANGO if user == VALIDATOR else VALIDATOR}")
    assert printed_with(set(), PURGED, root, user=user)[1] is not None
    assert checked(root, ALL, user=user)[0] == "ok"
    assert printed_with(ALL, PURGED, root, user=user)[1] is None
    assert not (root / "runs/1/a").exists()


@pytest.mark.parametrize("containers", [True, False])
def test_without_files_of_others_a_missing_right_stops_no_job(root: Path, containers: bool) -> None:
    setpriv_or_skip()
    (root / "runs").mkdir()
    for path in (root, root / "runs"):
        os.chown(path, OTHER, OTHER)
    level, text, _ = printed_with(set(), CHECKED, root, containers, user=OTHER)
    assert level == ("warning" if containers else "ok"), text
    (root / "runs" / "other").write_text("")
    os.chown(root / "runs" / "other", DJANGO, DJANGO)
    level, text, _ = printed_with(set(), CHECKED, root, containers, user=OTHER)
    assert level == "error"
    assert text.endswith(f"there are files of user {DJANGO}")


def test_a_root_that_may_not_be_written_names_the_right_to_it(root: Path) -> None:
    setpriv_or_skip()
    make_bundle(root)
    level, text, _ = checked(root, {CHOWN, FOWNER}, user=NOBODY)
    assert level == "error"
    assert f"user {NOBODY} lacks DAC_OVERRIDE: " in text


def test_a_probe_that_was_left_by_a_killed_check_goes_with_the_next(root: Path) -> None:
    setpriv_or_skip()
    make_bundle(root)
    before = set(root.rglob("*"))
    child = subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False, cwd=Path.cwd())
    assert child.returncode == -signal.SIGKILL
    (left,) = (path for path in root.iterdir() if path.name.startswith(PREFIX))
    assert {path.stat().st_uid for path in left.rglob("*")} == {DJANGO, VALIDATOR}

    level, _, action = checked(root, set(), user=OTHER)
    assert level == "error"
    assert f"remove {left.name} as root" in action
    assert left.exists()
    assert checked(root, ALL)[0] == "ok"
    assert set(root.rglob("*")) == before


def test_a_leftover_that_cannot_be_removed_is_named(root: Path) -> None:
    setpriv_or_skip()
    left = root / f"{PREFIX}0123"
    left.mkdir(mode=0o755)
    os.chown(root, OTHER, OTHER)  # But the leftover is root's.
    (left / "file").write_text("")
    level, text, action = checked(root, set(), user=OTHER)
    assert level == "warning"
    assert text.endswith(f"left {left.name}")
    assert action.endswith(f"remove {left.name} as root")
    assert left.exists()


def test_the_probe_of_another_check_that_is_alive_is_left_alone(root: Path) -> None:
    used = root / f"{PREFIX}0123"
    used.mkdir()
    descriptor = os.open(used, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        check_rights("rights", root, containers=False)
        assert used.exists()
    finally:
        os.close(descriptor)
    check_rights("rights", root, containers=False)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("owner", [0, DJANGO])
def test_a_capability_without_effect_is_told_from_one_that_is_missing(
    root: Path, owner: int
) -> None:
    setpriv_or_skip()
    os.chown(root, owner, owner)
    command = ["unshare", "--user", "--map-root-user"]  # No other user exists in there.
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no user namespaces")
    command += [sys.executable, "-c", CHECKED, str(root), "True"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    level, text, action = json.loads(said)
    assert level == "error", text
    assert f"holds {'DAC_OVERRIDE' if owner else 'CHOWN'}, which has no effect" in text
    assert "rootless" in action
    assert list(root.iterdir()) == []


def test_an_absent_root_and_one_that_cannot_be_written_at_all(root: Path) -> None:
    absent = root / "absent"
    assert str(check_rights("r", absent, containers=True, required=False).level) == "ok"
    assert check_rights("r", absent, containers=True).text.startswith("not checked: ")
