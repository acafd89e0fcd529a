"""Folders of the tests in memory, where there is a file system of that kind.

Tests make and remove many small databases and files, and most of them ask for `fsync`: on a disk
they would wait for it most of the time.
"""

import os
import shutil
import tempfile
from functools import cache

BYTES = 2 * 2**30
"""What must be free."""

TEMPORARY = "PYTEST_DEBUG_TEMPROOT"
"""The variable that says where pytest keeps the folders of its fixture `tmp_path`."""


@cache
def memory() -> str | None:
    """Return a folder in memory; TEST_DATABASE_FOLDER names another one.

    None, for the usual folder of temporary files, when there is none or it is too small.
    """
    folder = os.environ.get("TEST_DATABASE_FOLDER", "/dev/shm")  # noqa: S108 - in folders of its own
    try:
        enough = shutil.disk_usage(folder).free >= BYTES
    except OSError:
        return None
    return folder if enough and os.access(folder, os.W_OK) else None


def temporary_folder() -> "tempfile.TemporaryDirectory[str]":
    """Make a folder for the block of a `with` statement.

    PostgreSQL runs as another user when root starts it, and may not enter pytest's own folder.
    """
    return tempfile.TemporaryDirectory(prefix="vm-", dir=memory(), ignore_cleanup_errors=True)


def keep_pytests_folders_there() -> None:
    """Let `tmp_path` be in memory, unless the environment says where it shall be.

    Some tests execute what they write: not every file system allows that.
    """
    folder = memory()
    no_programs = getattr(os, "ST_NOEXEC", 0)  # Linux has it
    if folder is not None and not os.statvfs(folder).f_flag & no_programs:
        os.environ.setdefault(TEMPORARY, folder)
