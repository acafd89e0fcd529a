"""What a local store holds: the folders below a directory, and how old a tree is.

Nothing is changed, and no symbolic link is followed.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from maintenance.storage.directories import DIRECTORY
from maintenance.storage.walk import MAX_DEPTH

EPOCH = datetime.fromtimestamp(0, UTC)
LAST = datetime.max.replace(tzinfo=UTC)


def folder_names(directory: int) -> Iterator[str]:
    """Yield the names of the directories and symbolic links in an open directory.

    Raises:
        OSError: it cannot be read.
    """
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) or entry.is_symlink():
                yield entry.name


def newest_file(parent: int, name: str) -> datetime | None:
    """Return when the newest file below a directory was changed; None if the name is absent.

    Without a file in it, or for a link: when the directory or the link itself was changed.

    Raises:
        OSError: a directory of the tree cannot be read.
    """
    try:
        itself = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return _moment(_newest(parent, name) or itself.st_mtime_ns)


def _newest(parent: int, name: str, depth: int = 0) -> int:
    """Return the time of the newest file below a name, 0 if there is none."""
    if depth > MAX_DEPTH:
        raise OSError(errno.ENAMETOOLONG, f"nested deeper than {MAX_DEPTH} directories")
    try:
        directory = os.open(name, DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return 0
        raise
    newest = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    newest = max(newest, _newest(directory, entry.name, depth + 1))
                    continue
                with suppress(FileNotFoundError):
                    newest = max(newest, entry.stat(follow_symlinks=False).st_mtime_ns)
    finally:
        os.close(directory)
    return newest


def _moment(nanoseconds: int) -> datetime:
    try:
        return EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return LAST
