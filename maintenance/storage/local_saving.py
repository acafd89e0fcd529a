"""Saving files in a local store: complete and durable before they have their name.

A file is written under a passing name in its own directory, synced, and then linked to its name,
which fails when the name is taken: so nothing is overwritten, and no half of a file is ever seen.
At the end the directories are synced in which something new has its name. Directories are opened
one below the other, without following symbolic links. Several files are saved at once, because
nearly all of the time is spent waiting for the disk, which serves many syncs as fast as one.
"""

import errno
import os
import stat
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from secrets import token_hex
from threading import Lock

from maintenance.errors import UnsafeKey
from maintenance.storage.keys import split_key
from maintenance.storage.saving import all_taken, candidates
from maintenance.storage.store import Saved
from maintenance.storage.walk import DIRECTORY, explain, shown

WORKERS = 8

FILE_MODE = 0o644
"""What Django gives to a file that it saves, whatever the umask is."""

READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
WRITING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Parts = tuple[str, ...]


def save_files(root: int, files: Sequence[tuple[str, bytes]]) -> list[Saved]:
    """Save files below an open directory; see `Store` for what is promised."""
    call = _Call(root, files)
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="saving") as workers:
        list(workers.map(call.save, call.folders))
        causes = dict(zip(call.grown, workers.map(call.sync, call.grown), strict=True))
    for folder, indexes in call.folders.items():
        cause = _first_above(folder, causes)
        for index in indexes if cause else ():
            call.outcomes[index] = Saved(error=call.outcomes[index].error or cause)
    return call.outcomes


def _first_above(folder: Parts, causes: dict[Parts, str | None]) -> str | None:
    """Return why a directory on the way to a folder is not durable, None when all are."""
    above = (causes.get(folder[:depth]) for depth in range(len(folder)))
    return next(filter(None, above), None)


class _Call:
    """One call of `save_files`.

    The files of one folder are one thread's: so their passing names cannot get into each other's
    way. `grown` are the directories that got entries, to be synced at the end.
    """

    def __init__(self, root: int, files: Sequence[tuple[str, bytes]]) -> None:
        self._root = root
        self._files = files
        self._lock = Lock()
        self.outcomes = [Saved()] * len(files)
        self.folders: dict[Parts, list[int]] = defaultdict(list)
        self.grown: dict[Parts, None] = {}
        for index, (key, _) in enumerate(files):
            try:
                self.folders[split_key(key)[:-1]].append(index)
            except UnsafeKey as error:
                self.outcomes[index] = Saved(error=str(error))

    def save(self, folder: Parts) -> None:
        """Save the files of one folder, and write down their outcomes."""
        indexes = self.folders[folder]
        try:
            directory = self._open(folder, make=True)
        except (OSError, UnsafeKey) as error:
            for index in indexes:
                self.outcomes[index] = _failed(self._files[index][0], error)
            return
        try:
            for index in indexes:
                self.outcomes[index] = _save(directory, *self._files[index])
            os.fsync(directory)
        except OSError as error:
            for index in indexes:
                self.outcomes[index] = _failed(self._files[index][0], error)
        finally:
            os.close(directory)

    def sync(self, parts: Parts) -> str | None:
        """Make the entries of a directory durable; return why that failed."""
        try:
            directory = self._open(parts, make=False)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except UnsafeKey as error:
            return str(error)
        except OSError as error:
            return explain("/".join(parts) or ".", error)
        return None

    def _open(self, parts: Parts, *, make: bool) -> int:
        """Open a directory below the root, and make it when it is absent and wanted.

        Raises:
            UnsafeKey: a component is a symbolic link.
            OSError: the directory cannot be opened or made.
        """
        directory = os.dup(self._root)
        for depth, name in enumerate(parts):
            above = directory
            try:
                if make:
                    self._make(above, parts[:depth], name)
                directory = os.open(name, DIRECTORY, dir_fd=above)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                status = os.stat(name, dir_fd=above, follow_symlinks=False)
                if not stat.S_ISLNK(status.st_mode):
                    raise
                path = "/".join(parts[: depth + 1])
                message = f"refused: {path!r} is a symbolic link on the way to a file"
                raise UnsafeKey(message) from None
            finally:
                os.close(above)
        return directory

    def _make(self, above: int, parts: Parts, name: str) -> None:
        """Make a directory unless it is there; remember that the one above has a new entry."""
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=above)
        # Also when it was there: a crash may have left it unsynced. Once a directory and call.
        with self._lock:
            self.grown[parts] = None


def _save(directory: int, key: str, content: bytes) -> Saved:
    """Save one file in its directory, under its name or one near it."""
    parts = split_key(key)
    try:
        _clean(directory, parts[-1])
        for near in candidates(parts, content):
            if _place(directory, near[-1], content):
                return Saved("/".join(near))
    except OSError as error:
        return _failed(key, error)
    return Saved(error=all_taken(shown(key)))


def _place(directory: int, name: str, content: bytes) -> bool:
    """Give a file its name; return whether the name now holds these bytes, safe on the disk."""
    held = _holds(directory, name, content)
    if held is not None:
        return held
    passing = f"{_passing(name)}{token_hex(4)}"
    descriptor = os.open(passing, WRITING, FILE_MODE, dir_fd=directory)
    try:
        try:
            os.fchmod(descriptor, FILE_MODE)
            _write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(passing, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except FileExistsError:
        return bool(_holds(directory, name, content))  # Somebody took it meanwhile.
    finally:
        with suppress(FileNotFoundError):
            os.unlink(passing, dir_fd=directory)
    return True


def _clean(directory: int, name: str) -> None:
    """Remove what a crash left under a passing name."""
    for entry in os.listdir(directory):
        if entry.startswith(_passing(name)):
            with suppress(FileNotFoundError):
                os.unlink(entry, dir_fd=directory)


def _passing(name: str) -> str:
    return f".{name}.part-"


def _holds(directory: int, name: str, content: bytes) -> bool | None:
    """Return whether a name holds just these bytes, None when it is free; sync it if it does."""
    try:
        descriptor = os.open(name, READING, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EACCES, errno.ENXIO):
            return False  # A link, or what we may not read: taken.
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != len(content):
            return False
        if _read(descriptor, len(content)) != content:
            return False
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read(descriptor: int, size: int) -> bytes:
    found = bytearray()
    while len(found) <= size and (piece := os.read(descriptor, size + 1 - len(found))):
        found += piece
    return bytes(found)


def _failed(key: str, error: OSError | UnsafeKey) -> Saved:
    return Saved(error=explain(key, error) if isinstance(error, OSError) else str(error))
