"""Opening the root of a local store, and its marker.

A root is known by its path, and worked in through a descriptor. After a lazy unmount, or when a
link is changed, the descriptor still works while the path leads elsewhere; so the marker is always
read through a freshly opened path, which must lead to the same directory.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from maintenance.errors import StorageError
from maintenance.storage.directories import remove_unfinished, sync_entries
from maintenance.storage.marker import MARKER, MAX_MARKER_BYTES
from maintenance.storage.ownership import own_file

PART = f"{MARKER}.part-"
"""What the names of unfinished markers begin with."""
ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
WRITING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

FIRST_MODE = 0o600
"""The mode of a marker until it has its own, whatever the umask is."""


def open_root(root: Path, *, required: bool = True) -> int | None:
    """Open a storage root, which may be a symbolic link that the operator made.

    Args:
        root: the directory.
        required: whether an absent root is an error; otherwise None is returned for it.

    Raises:
        StorageError: the root cannot be opened. A link that leads nowhere is never absent: it was
            made for a volume that is not mounted.
    """
    try:
        descriptor = os.open(root, ROOT)
    except OSError as error:
        cause = error.strerror or type(error).__name__
        if error.errno == errno.ENOENT:
            if root.is_symlink():
                cause = "is a symbolic link that leads nowhere"
            elif not required:
                return None
        raise _unusable(root, cause) from None
    if not os.access(".", os.R_OK | os.X_OK, dir_fd=descriptor, effective_ids=True):
        os.close(descriptor)
        raise _unusable(root, os.strerror(errno.EACCES))
    return descriptor


def leads_to(path: Path, held: int) -> bool:
    """Return whether a path leads to an open directory."""
    try:
        return os.path.samestat(path.stat(), os.fstat(held))
    except OSError:
        return False


def read_marker(root: Path, held: int | None) -> bytes | None:
    """Return the content of a root's marker, None when it has none.

    Args:
        root: the path of the root, which is opened afresh.
        held: the descriptor of the root that is worked in, None when the root was absent.

    Raises:
        StorageError: the path leads elsewhere than before, or the marker cannot be read.
    """
    fresh = open_root(root, required=held is not None)
    if fresh is None:
        return None
    try:
        if held is None:
            raise _unusable(root, "was absent when this run began, and is there now")
        if not os.path.samestat(os.fstat(fresh), os.fstat(held)):
            raise _unusable(root, "is another directory than when this run began")
        return _read(fresh)
    except OSError as error:
        raise _unusable(root, f"{MARKER}: {error.strerror}") from None
    finally:
        os.close(fresh)


def write_marker(root: Path, held: int, content: bytes) -> None:
    """Write or replace the marker of a root, durably, with the owner of the root.

    Raises:
        StorageError: that failed; an older marker is unchanged then.
    """
    temporary = f"{PART}{token_hex(4)}"
    try:
        remove_unfinished(held, PART)  # only one process writes at a time
        descriptor = os.open(temporary, WRITING, FIRST_MODE, dir_fd=held)
        try:
            # Readable: the command that adopts a root and the worker may be different users.
            own_file(descriptor, held, readable=True)
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, MARKER, src_dir_fd=held, dst_dir_fd=held)
        sync_entries(held)
    except OSError as error:
        raise _unusable(root, f"{MARKER} cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=held)


def _read(directory: int) -> bytes | None:
    """Return the content of the marker, b"" when it is too large or not a file."""
    try:
        descriptor = os.open(MARKER, READING, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_MARKER_BYTES:
            return b""
        return os.read(descriptor, MAX_MARKER_BYTES)
    finally:
        os.close(descriptor)


def _unusable(root: Path, cause: str) -> StorageError:
    return StorageError(
        f"storage root {root}: {cause}. Is the volume mounted, and are STORAGE_ROOT and"
        " DATA_STORAGE_ROOT those of Validibot?"
    )
