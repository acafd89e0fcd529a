"""Acting as a user whom file permissions bind; root is above them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NOBODY = 65_534
"""The user id that root changes to."""

CHILD = """
import json, os, sys
from pathlib import Path
from maintenance.storage.local import LocalStore
from maintenance.storage.store import Tree

os.chdir(sys.argv[1])  # First: the directories above may be closed to the other user.
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
store = LocalStore(Path("."))
"""


@contextmanager
def without_root() -> Iterator[None]:
    """Act as another user in this thread's block when the tests run as root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def printed_without_root(root: Path, code: str) -> Any:
    """Run code that uses `store`, a LocalStore on this root, as another user.

    Returns:
        The JSON that the code printed.
    """
    child = subprocess.run(
        [sys.executable, "-c", CHILD + code, str(root), str(NOBODY)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def setpriv_or_skip() -> str:
    """Return the program that starts another one with fewer capabilities; without it, skip."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        reason = "only root, with setpriv, can act as other users"
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)
    return setpriv


def printed_with(
    capabilities: Collection[str], code: str, *arguments: object, user: int = 0
) -> Any:
    """Run code as a user who holds these capabilities and no others.

    Root has them as in a container that drops all others, another user as from systemd's
    AmbientCapabilities.

    Returns:
        The JSON that the code printed last.
    """
    listed = ",".join(["-all", *(f"+{one.lower()}" for one in sorted(capabilities))])
    options = [f"--bounding-set={listed}", f"--inh-caps={listed}", "--no-new-privs"]
    if user:
        options += [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        options += [f"--ambient-caps={listed}"]
    child = subprocess.run(
        [setpriv_or_skip(), *options, sys.executable, "-c", code, *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout.splitlines()[-1])
