"""Opening and syncing directories below a storage root, without following symbolic links.

Each path is opened one component after the other, each by the descriptor of the one above. No key
can therefore leave its root, not even when a directory is replaced by a link in the meantime.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from maintenance.errors import StorageError, UnsafeKey

TOLERATED_BY_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What file systems answer that cannot sync a directory; no other error is tolerated."""

OF_THE_STORAGE = frozenset(
    {errno.EROFS, errno.ENOTCONN, errno.ESHUTDOWN, errno.EHOSTDOWN, errno.ENOSPC, errno.EDQUOT}
)
"""Errors that every other file of the storage meets as well."""

Parts = tuple[str, ...]
"""A path below a root, as its components."""

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
    """Make the changed entries of a directory below a root durable.

    Raises:
        UnsafeKey: see `open_directory`.
        OSError: see `open_directory` and `sync_entries`.
    """
    directory = open_directory(root, parts)
    try:
        sync_entries(directory)
    finally:
        os.close(directory)


def sync_entries(directory: int) -> None:
    """Make the changed entries of an open directory durable.

    Raises:
        OSError: that failed. A file system that cannot sync directories is no failure.
    """
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in TOLERATED_BY_SYNC:
            raise


def explain(name: str, error: OSError | UnsafeKey) -> str:
    """Return an error as the cause of one file's failure: which name, and why.

    Raises:
        StorageError: the error is one of the storage as a whole.
    """
    if isinstance(error, UnsafeKey):
        return str(error)
    cause = f"{shown(name)}: {error.strerror or error}"
    if error.errno in OF_THE_STORAGE:
        message = f"the storage cannot be used: {cause}"
        raise StorageError(message) from None
    return cause


def shown(name: str) -> str:
    """Return a name as text that a database takes: bytes that are not UTF-8 become escapes."""
    return os.fsencode(name).decode(errors="backslashreplace")


def remove_unfinished(directory: int, prefix: str) -> None:
    """Remove what a crash left under temporary names that begin with `prefix`.

    Raises:
        OSError: the directory cannot be listed, or a file cannot be removed.
    """
    for entry in os.listdir(directory):
        if entry.startswith(prefix):
            with suppress(FileNotFoundError):
                os.unlink(entry, dir_fd=directory)
