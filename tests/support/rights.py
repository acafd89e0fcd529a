"""Acting as a user whom file permissions bind; root is above them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
