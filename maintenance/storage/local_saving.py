"""Saving files in a local store: each is complete and durable before it has its name.

A file is written under a temporary name in its own directory, synced, and then linked to its name,
which fails when the name is taken. Nothing is overwritten, and no reader ever sees half a file. It
and the folders that are made for it have the owner and mode of the directory that they are in. At
the end the directories that got new entries are synced. Several files are saved at a time, because
a disk serves many syncs as fast as one.
"""

import errno
import os
import stat
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from secrets import token_hex
from threading import Lock

from maintenance.errors import UnsafeKey
from maintenance.storage.directories import (
    Parts,
    explain,
    open_directory,
    remove_unfinished,
    shown,
    sync_directory,
    sync_entries,
)
from maintenance.storage.keys import split_key
from maintenance.storage.ownership import make_directory, own_file
from maintenance.storage.saving import all_taken, candidates
from maintenance.storage.store import Saved

THREADS = 8

FIRST_MODE = 0o600
"""The mode of a file until it has its own, whatever the umask is."""

READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
WRITING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def save_files(root: int, files: Sequence[tuple[str, bytes]]) -> list[Saved]:
    """Save files below an open directory; see `Store.save_files`."""
    call = _Call(root, files)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="saving") as workers:
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

    One thread saves all files of a folder, so that temporary names do not collide. `grown` holds
    the directories that got entries and are synced at the end.
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
        """Save the files of one folder, and store their outcomes."""
        indexes = self.folders[folder]
        try:
            directory = open_directory(self._root, folder, partial(self._make, folder))
        except (OSError, UnsafeKey) as error:
            self._fail(indexes, error)
            return
        try:
            for index in indexes:
                self.outcomes[index] = _save(directory, *self._files[index])
            sync_entries(directory)
        except OSError as error:
            self._fail(indexes, error)
        finally:
            os.close(directory)

    def sync(self, parts: Parts) -> str | None:
        """Make the entries of a directory durable; return why that failed."""
        try:
            sync_directory(self._root, parts)
        except (OSError, UnsafeKey) as error:
            return explain("/".join(parts) or ".", error)
        return None

    def _fail(self, indexes: Sequence[int], error: OSError | UnsafeKey) -> None:
        for index in indexes:
            self.outcomes[index] = Saved(error=explain(self._files[index][0], error))

    def _make(self, parts: Parts, above: int, depth: int) -> None:
        """Make a directory unless it is there; remember that the one above has a new entry."""
        make_directory(above, parts[depth])
        # Also when it was there: a crash may have left it unsynced.
        with self._lock:
            self.grown[parts[:depth]] = None


def _save(directory: int, key: str, content: bytes) -> Saved:
    """Save one file in its directory, under its name or one near it."""
    parts = split_key(key)
    try:
        remove_unfinished(directory, _prefix(parts[-1]))
        for near in candidates(parts, content):
            if _place(directory, near[-1], content):
                return Saved("/".join(near))
    except OSError as error:
        return Saved(error=explain(key, error))
    return Saved(error=all_taken(shown(key)))


def _place(directory: int, name: str, content: bytes) -> bool:
    """Give a file its name; return whether the name now durably holds these bytes."""
    held = _holds(directory, name, content)
    if held is not None:
        return held
    temporary = f"{_prefix(name)}{token_hex(4)}"
    descriptor = os.open(temporary, WRITING, FIRST_MODE, dir_fd=directory)
    try:
        try:
            own_file(descriptor, directory)
            _write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except FileExistsError:
        return bool(_holds(directory, name, content))  # Another process took the name meanwhile.
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
    return True


def _prefix(name: str) -> str:
    return f".{name}.part-"


def _holds(directory: int, name: str, content: bytes) -> bool | None:
    """Sync a name that holds exactly these bytes; return whether it does, None if it is free."""
    try:
        descriptor = os.open(name, READING, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EACCES, errno.ENXIO):
            return False  # A link or an unreadable file: the name is taken.
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
