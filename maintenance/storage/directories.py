"""Opening and syncing directories below a storage root, without following symbolic links.

Each path is opened one component after the other, each by the descriptor of the one above. No key
can therefore leave its root, not even when a directory is replaced by a link in the meantime.
"""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from maintenance.errors import UnsafeKey

Parts = tuple[str, ...]
"""A path below a root, as its components."""

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_root(root: Path) -> int:
    """Open a storage root, which may be a symbolic link that the operator made.

    Raises:
        OSError: the root is absent, is no directory, or may not be read.
    """
    return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def open_directory(
    root: int, parts: Parts, before: Callable[[int, int], None] | None = None
) -> int:
    """Open a directory below an open root; the caller closes it.

    Args:
        root: the descriptor of the root.
        parts: the components of the path; none of them: the root itself.
        before: called before each component is opened, with the descriptor of the directory above
            it and its index in `parts`.

    Raises:
        UnsafeKey: a component is a symbolic link.
        FileNotFoundError: a component is absent.
        NotADirectoryError: a component is a file.
        OSError: a component cannot be opened for another reason.
    """
    directory = os.dup(root)
    for depth, name in enumerate(parts):
        above = directory
        try:
            if before is not None:
                before(above, depth)
            directory = os.open(name, DIRECTORY, dir_fd=above)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            if not stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
                raise
            path = "/".join(parts[: depth + 1])
            message = f"refused: {path!r} is a symbolic link on the way to a file"
            raise UnsafeKey(message) from None
        finally:
            os.close(above)
    return directory


def sync_directory(root: int, parts: Parts) -> None:
    """Make the changed entries of a directory durable.

    Raises:
        UnsafeKey, OSError: see `open_directory`, or the file system cannot sync it.
    """
    directory = open_directory(root, parts)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def explain(name: str, error: OSError | UnsafeKey) -> str:
    """Return an error as the cause of a failure: which name, and why."""
    if isinstance(error, UnsafeKey):
        return str(error)
    return f"{shown(name)}: {error.strerror or error}"


def shown(name: str) -> str:
    """Return a name as text that a database takes: bytes that are not UTF-8 become escapes."""
    return os.fsencode(name).decode(errors="backslashreplace")
