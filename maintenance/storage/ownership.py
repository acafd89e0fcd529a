"""Owner and mode of what is saved in a local store: those of its directory (SPEC 4).

The application must be able to read and delete what the jobs save, and the jobs may be run by
another user than the application, such as root with few capabilities. What the process may not give
away stays its own, and is readable for all who reach its directory.
"""

import errno
import os
import stat
from contextlib import suppress

from maintenance.storage.directories import DIRECTORY

NOT_POSSIBLE = frozenset(
    {errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
)
"""Errors of changing an owner or a mode: the process may not, or the file system has none."""


def file_mode(directory: os.stat_result) -> int:
    """Return the mode of a file in a directory: the directory's rights to read and write.

    In a sticky directory only the owner of a file may change it.
    """
    mode = directory.st_mode
    return mode & (0o644 if mode & stat.S_ISVTX else 0o666)


def own_file(file: int, directory: int, *, readable: bool = False) -> None:
    """Give a new file the owner and mode of its directory.

    Args:
        file: the descriptor of the file, which belongs to this user.
        directory: the descriptor of its directory.
        readable: whether all who reach the directory may read it, whatever its mode.

    Raises:
        OSError: that failed for another reason than missing rights.
    """
    above = os.fstat(directory)
    mode = file_mode(above) | (0o444 if readable else 0)
    _give(file, above, mode, otherwise=mode | 0o644)


def make_directory(above: int, name: str) -> None:
    """Make a directory with the owner and mode of the one above it, unless it is there.

    One that belongs to this user, while the one above does not, was left by a crash between its
    creation and the change of its owner: that is made up for.

    Raises:
        OSError: that failed for another reason than missing rights.
    """
    try:
        os.mkdir(name, dir_fd=above)
    except FileExistsError:
        if not _half_made(above, name):
            return
    directory = os.open(name, DIRECTORY, dir_fd=above)
    try:
        parent = os.fstat(above)
        mode = stat.S_IMODE(parent.st_mode)
        _give(directory, parent, mode, otherwise=mode | 0o755)
    finally:
        os.close(directory)


def _half_made(above: int, name: str) -> bool:
    user = os.geteuid()
    found = os.stat(name, dir_fd=above, follow_symlinks=False)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == user != os.fstat(above).st_uid


def _give(descriptor: int, above: os.stat_result, mode: int, *, otherwise: int) -> None:
    """Give an entry this mode and the owner of the directory above it.

    The owner comes last: who has given an entry away may not change its mode without a capability.
    """
    found = os.fstat(descriptor)
    if mode & stat.S_ISGID:
        # The bit can be set only while the group is one of the process.
        with suppress(OSError):
            os.fchown(descriptor, -1, os.getegid())
    try:
        os.fchmod(descriptor, mode)
        if mode & stat.S_ISGID or _owner(found) != _owner(above):
            os.fchown(descriptor, *_owner(above))
    except OSError as error:
        if error.errno not in NOT_POSSIBLE:
            raise
        with suppress(OSError):
            os.fchown(descriptor, -1, above.st_gid)
        with suppress(OSError):
            os.fchmod(descriptor, otherwise)


def _owner(status: os.stat_result) -> tuple[int, int]:
    return status.st_uid, status.st_gid
