"""The local file system as a store.

Every operation names its directory by a descriptor that `open_directory` made. At the end of a
call the directories that lost entries are synced: a row that is stamped afterwards stays true
through a power cut.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from maintenance.errors import StorageError, UnsafeKey
from maintenance.storage.directories import Parts, explain, open_directory, sync_directory
from maintenance.storage.keys import split_file_key, split_key
from maintenance.storage.local_inventory import folder_names, newest_file
from maintenance.storage.local_root import leads_to, open_root, read_marker, write_marker
from maintenance.storage.local_saving import save_files
from maintenance.storage.permit import ALWAYS, Permit, wait_for_all
from maintenance.storage.store import ABSENT, Deletion, Newest, Saved, Tree
from maintenance.storage.walk import below, measure_file, measure_tree, remove_file, remove_tree

THREADS = 2
"""Two threads delete a third faster than one, because they wait for the file system; more than two
are no faster."""

SHARED_FROM = 32
"""Names in one directory from which on the threads share the work."""

Act = Callable[[int, str], Deletion]
Work = Sequence[tuple[Parts | str, Act]]
"""Paths, as their components or the reason why they were refused, and what is done with each."""


class LocalStore:
    """One directory of the local file system; see `Store` for what its methods promise."""

    def __init__(self, root: Path, *, required: bool = True) -> None:
        """Open the root.

        Args:
            root: the directory that keys are relative to.
            required: whether an absent root is an error; otherwise it is an empty one.

        Raises:
            StorageError: the root cannot be opened. Files below an absent root (a volume that is
                not mounted) must never count as absent files.
        """
        self.path = root
        self._root = open_root(root, required=required)
        self.absent = self._root is None
        self._workers = ThreadPoolExecutor(THREADS, thread_name_prefix="storage")

    @property
    def place(self) -> str:
        """The root, as messages call it."""
        return f"storage root {self.path}"

    def is_at(self, path: Path) -> bool:
        """Return whether a path leads to the directory that the store works in."""
        return self._root is not None and leads_to(path, self._root)

    def read_marker(self) -> bytes | None:
        """Return the content of the root's marker, read through a freshly opened path."""
        return read_marker(self.path, self._root)

    def write_marker(self, content: bytes) -> None:
        """Write or replace the root's marker, durably."""
        if self._root is None:
            message = f"{self.place} is missing"
            raise StorageError(message)
        write_marker(self.path, self._root, content)

    def exist(self, keys: Sequence[str]) -> list[bool]:
        """Return for each key whether there is an entry of that name."""
        return [self._exists(key) for key in keys]

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names of the directories and links directly below a prefix."""
        try:
            directory = self._open(split_key(prefix))
        except OSError as error:
            raise UnsafeKey(explain(prefix, error)) from None
        if directory is not None:
            try:
                yield from folder_names(directory)
            finally:
                os.close(directory)

    def newest(self, prefixes: Sequence[str]) -> list[Newest]:
        """Return for each tree when its newest file was written."""
        return [self._newest(prefix) for prefix in prefixes]

    def close(self) -> None:
        """End the threads and close the root."""
        self._workers.shutdown()
        if self._root is not None:
            os.close(self._root)
            self._root = None

    def save_files(self, files: Sequence[tuple[str, bytes]]) -> list[Saved]:
        """Save files, never over others; one outcome per file, in their order."""
        if self._root is None:
            return [Saved(error=f"{key}: the storage root is absent") for key, _ in files]
        return save_files(self._root, files)

    def remove_files(self, keys: Sequence[str], permit: Permit = ALWAYS) -> list[Deletion]:
        """Delete single files; one outcome per key, in their order."""
        act = partial(remove_file, permit=permit)
        work: Work = [(_split(split_file_key, key), act) for key in keys]
        return self._each(work, permit)

    def remove_trees(self, trees: Sequence[Tree], permit: Permit = ALWAYS) -> list[Deletion]:
        """Delete trees; one outcome per tree, in their order."""
        work: Work = [
            (_split(split_key, t.prefix), partial(remove_tree, keep=t.keep, permit=permit))
            for t in trees
        ]
        return self._each(work, permit)

    def measure_files(self, keys: Sequence[str]) -> list[Deletion]:
        """Return what `remove_files` would delete, without changing anything."""
        return self._each([(_split(split_file_key, key), measure_file) for key in keys])

    def measure_trees(self, trees: Sequence[Tree]) -> list[Deletion]:
        """Return what `remove_trees` would delete, without changing anything."""
        work: Work = [
            (_split(split_key, t.prefix), partial(measure_tree, keep=t.keep)) for t in trees
        ]
        return self._each(work)

    def _exists(self, key: str) -> bool:
        path = _split(split_key, key)
        if isinstance(path, str):
            return False  # No file can have this key.
        try:
            directory = self._open(path[:-1])
            if directory is None:
                return False
            try:
                os.stat(path[-1], dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                return False
            finally:
                os.close(directory)
        except UnsafeKey:
            return False
        except OSError as error:
            message = f"{self.place} cannot be read: {explain(key, error)}"
            raise StorageError(message) from None
        return True

    def _newest(self, prefix: str) -> Newest:
        try:
            parts = split_key(prefix)
            directory = self._open(parts[:-1])
            if directory is None:
                return Newest()
            try:
                return Newest(newest_file(directory, parts[-1]))
            finally:
                os.close(directory)
        except (OSError, UnsafeKey) as error:
            return Newest(error=explain(prefix, error))

    def _each(self, work: Work, permit: Permit | None = None) -> list[Deletion]:
        """Do each piece of work in its parent directory; each directory is opened once.

        Args:
            work: what is done.
            permit: for work that deletes entries; their directories are synced then.
        """
        outcomes = [ABSENT] * len(work)
        parents: dict[Parts, list[int]] = defaultdict(list)
        for index, (path, _) in enumerate(work):
            if isinstance(path, str):
                outcomes[index] = Deletion(error=path)
            else:
                parents[path[:-1]].append(index)
        survivors: dict[Parts, list[int]] = defaultdict(list)
        for parent, indexes in parents.items():
            if self._in_directory(parent, indexes, work, outcomes) and permit is not None:
                survivors[self._prune(parent, permit)] += indexes
        for survivor, indexes in survivors.items():
            cause = self._sync(survivor)
            for index in indexes if cause else ():
                outcomes[index] += Deletion(error=cause)
        return outcomes

    def _in_directory(
        self,
        parent: Parts,
        indexes: Sequence[int],
        work: Work,
        outcomes: list[Deletion],
    ) -> bool:
        """Do the work in one directory and store its outcomes; return whether it exists."""
        try:
            directory = self._open(parent)
        except (OSError, UnsafeKey) as error:
            for index in indexes:
                outcomes[index] = Deletion(error=explain("/".join(parent), error))
            return False
        if directory is None:
            return False

        def do(share: Sequence[int]) -> None:
            for index in share:
                path, act = work[index]
                outcomes[index] = below(parent, act(directory, path[-1]))

        try:
            if len(indexes) < SHARED_FROM:
                do(indexes)
            else:
                shares = [indexes[start::THREADS] for start in range(THREADS)]
                wait_for_all([self._workers.submit(do, share) for share in shares])
        finally:
            os.close(directory)
        return True

    def _open(self, parts: Parts) -> int | None:
        """Open a directory below the root, None when it is absent; the caller closes it.

        Raises:
            UnsafeKey: a component is a symbolic link.
            OSError: the directory cannot be opened.
        """
        if self._root is None:
            return None
        try:
            return open_directory(self._root, parts)
        except (FileNotFoundError, NotADirectoryError):
            return None  # Where a file is in the place of a directory, the key is absent, too.

    def _prune(self, parts: Parts, permit: Permit) -> Parts:
        """Remove empty directories upwards, never the root's first level; return the survivor."""
        while len(parts) > 1:
            try:
                above = self._open(parts[:-1])
            except (OSError, UnsafeKey):
                return parts  # It was replaced or locked meanwhile; syncing it says so.
            if above is None:
                parts = parts[:-1]
                continue
            try:
                permit.check()
                os.rmdir(parts[-1], dir_fd=above)
            except FileNotFoundError:
                pass
            except OSError:
                return parts  # It has entries, or may not be removed: it stays.
            finally:
                os.close(above)
            parts = parts[:-1]
        return parts

    def _sync(self, parts: Parts) -> str | None:
        """Make the deletions below a directory durable; return why that failed."""
        if self._root is not None:
            try:
                sync_directory(self._root, parts)
            except (FileNotFoundError, NotADirectoryError):
                pass  # The directory itself was deleted meanwhile.
            except (OSError, UnsafeKey) as error:
                return explain("/".join(parts), error)
        return None


def _split(split: Callable[[str], Parts], key: str) -> Parts | str:
    try:
        return split(key)
    except UnsafeKey as error:
        return str(error)
