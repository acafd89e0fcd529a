"""Deleting or measuring one file or directory tree, by descriptors, without following links."""

import errno
import os
import stat
from dataclasses import dataclass, replace

from maintenance.storage.directories import DIRECTORY, Parts, explain, shown
from maintenance.storage.permit import ALWAYS, Permit
from maintenance.storage.store import ABSENT, Deletion, Keep

MAX_DEPTH = 200
"""A tree that is nested deeper is refused: each level holds a descriptor open."""

MAX_PASSES = 5
"""How often a tree is emptied when entries appear in it meanwhile."""


def below(parent: Parts, outcome: Deletion) -> Deletion:
    """Return an outcome whose error names the whole key, not only its end below a directory."""
    if outcome.error is None or not parent:
        return outcome
    return replace(outcome, error=f"{shown('/'.join(parent))}/{outcome.error}")


def remove_file(parent: int, name: str, permit: Permit) -> Deletion:
    """Delete one file, or a symbolic link as a link, and verify that its name is gone.

    Raises:
        Exception: the permit is withdrawn.
        StorageError: the storage as a whole cannot be used.
    """
    found = measure_file(parent, name)
    if found.error or not found.files:
        return found
    permit.check()
    try:
        os.unlink(name, dir_fd=parent)
        if _exists(parent, name):
            return Deletion(error=f"{shown(name)}: is still there after its deletion")
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return Deletion(error=explain(name, error))
    return found


def measure_file(parent: int, name: str) -> Deletion:
    """Return what `remove_file` would delete."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return Deletion(error=explain(name, error))
    if stat.S_ISDIR(status.st_mode):
        return Deletion(error=f"{shown(name)}: is a directory where a file was expected")
    return Deletion(1, _size(status))


def remove_tree(parent: int, name: str, keep: Keep, permit: Permit) -> Deletion:
    """Delete what is below a directory and not kept, then the directories that are empty.

    The tree is measured afterwards: it is done when nothing is left that is not kept.

    Raises:
        Exception: the permit is withdrawn.
        StorageError: the storage as a whole cannot be used.
    """
    walk = _Walk(name, keep, permit, remove=True)
    total = ABSENT
    for _ in range(MAX_PASSES):
        deletion, gone = walk.directory(parent, name, ())
        total += deletion
        if gone or deletion.error:
            return total
        left = measure_tree(parent, name, keep)
        if left.error or not left.files:
            return total + Deletion(error=left.error)
    return total + Deletion(error=f"{shown(name)}: another process keeps writing into it")


def measure_tree(parent: int, name: str, keep: Keep) -> Deletion:
    """Return what `remove_tree` would delete."""
    return _Walk(name, keep, ALWAYS, remove=False).directory(parent, name, ())[0]


@dataclass(frozen=True, slots=True)
class _Walk:
    """One way through a tree.

    Attributes:
        root: the name of the tree, which errors begin with.
        keep: which entries stay.
        permit: checked before each deletion.
        remove: whether the others are deleted; otherwise they are only counted.
    """

    root: str
    keep: Keep
    permit: Permit
    remove: bool

    def directory(self, parent: int, name: str, parts: Parts) -> tuple[Deletion, bool]:
        """Empty one directory and remove it; return what went, and whether its name is gone."""
        if len(parts) > MAX_DEPTH:
            cause = f"{shown(self._path(parts))}: nested deeper than {MAX_DEPTH} directories"
            return Deletion(error=cause), False
        try:
            directory = os.open(name, DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            return ABSENT, True
        except OSError as error:
            return self._not_a_directory(parent, name, parts, error)
        files = size = 0
        problem: str | None = None
        kept = not self.remove
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    is_directory = entry.is_dir(follow_symlinks=False)
                    here = (*parts, entry.name)
                    if self.keep(here, is_directory):
                        kept = True
                        continue
                    if is_directory:
                        below, gone = self.directory(directory, entry.name, here)
                        kept = kept or not gone
                    else:
                        below = self._file(directory, entry, here)
                    files += below.files
                    size += below.bytes
                    problem = problem or below.error
            if not kept and problem is None:
                self.permit.check()
                os.rmdir(name, dir_fd=parent)
                return Deletion(files, size), not _exists(parent, name)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                problem = problem or explain(self._path(parts), error)
        finally:
            os.close(directory)
        return Deletion(files, size, problem), False

    def _file(self, directory: int, entry: os.DirEntry[str], parts: Parts) -> Deletion:
        try:
            size = _size(entry.stat(follow_symlinks=False))
            if self.remove:
                self.permit.check()
                os.unlink(entry.name, dir_fd=directory)
        except FileNotFoundError:
            return ABSENT
        except OSError as error:
            return Deletion(error=explain(self._path(parts), error))
        return Deletion(1, size)

    def _not_a_directory(
        self, parent: int, name: str, parts: Parts, error: OSError
    ) -> tuple[Deletion, bool]:
        """Handle a name that cannot be opened: a link goes as a link, a file is an error."""
        path = self._path(parts)
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            return Deletion(error=explain(path, error)), False
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return ABSENT, True  # It went between the two calls.
        except OSError as failure:
            return Deletion(error=explain(path, failure)), False
        if not stat.S_ISLNK(status.st_mode):
            return Deletion(error=f"{shown(path)}: is a file where a directory was expected"), False
        if self.remove:
            outcome = remove_file(parent, name, self.permit)
        else:
            outcome = measure_file(parent, name)
        if parts:
            outcome = below((self.root, *parts[:-1]), outcome)
        return outcome, outcome.error is None

    def _path(self, parts: Parts) -> str:
        return "/".join((self.root, *parts))


def _exists(parent: int, name: str) -> bool:
    """Return whether a directory has an entry of that name, dangling links included."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _size(status: os.stat_result) -> int:
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
