"""Deleting or measuring one directory tree, by descriptors and without following links."""

import errno
import os
import stat

from maintenance.storage.store import ABSENT, Deletion, Keep

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

MAX_DEPTH = 200
"""A tree nested deeper than this is refused rather than followed: each level is a descriptor."""

MAX_PASSES = 5
"""So often a tree is emptied again when entries appeared meanwhile."""

Parts = tuple[str, ...]


def remove_file(parent: int, name: str) -> Deletion:
    """Delete one file, or a symbolic link as a link, and verify that its name is gone."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            return Deletion(error=f"{shown(name)}: is a directory where a file was expected")
        os.unlink(name, dir_fd=parent)
        if exists(parent, name):
            return Deletion(error=f"{shown(name)}: is still there after its deletion")
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return Deletion(error=explain(name, error))
    return Deletion(files=1, bytes=_size(status))


def measure_file(parent: int, name: str) -> Deletion:
    """Say what `remove_file` would delete."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return Deletion(error=explain(name, error))
    if stat.S_ISDIR(status.st_mode):
        return Deletion(error=f"{shown(name)}: is a directory where a file was expected")
    return Deletion(files=1, bytes=_size(status))


def remove_tree(parent: int, name: str, keep: Keep) -> Deletion:
    """Delete what is below a directory and not kept, then the directories that are empty.

    The tree is looked at again afterwards: it is done when nothing is left that is not kept.
    """
    total = ABSENT
    for _ in range(MAX_PASSES):
        removal, gone = _remove_directory(parent, name, (), keep)
        total += removal
        if gone or removal.error:
            return total
        left = measure_tree(parent, name, keep)
        if left.error or not left.files:
            return total + Deletion(error=left.error)
    return total + Deletion(error=f"{shown(name)}: somebody keeps writing into it")


def measure_tree(parent: int, name: str, keep: Keep) -> Deletion:
    """Say what `remove_tree` would delete."""
    return _measure_directory(parent, name, (), keep)


def exists(parent: int, name: str) -> bool:
    """Return whether a directory has an entry of that name, dangling links included."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def explain(name: str, error: OSError) -> str:
    """Return an operating system's error for a report: which name, and why."""
    return f"{shown(name)}: {error.strerror or error}"


def shown(name: str) -> str:
    """Return a name as text that a database takes: bytes that are no UTF-8 become escapes."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _remove_directory(parent: int, name: str, parts: Parts, keep: Keep) -> tuple[Deletion, bool]:
    """Empty one directory and remove it; return what went, and whether the name is gone."""
    if len(parts) > MAX_DEPTH:
        return Deletion(error=f"{shown(name)}: nested deeper than {MAX_DEPTH} directories"), False
    try:
        directory = os.open(name, DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        return ABSENT, True
    except OSError as error:
        return _not_a_directory(parent, name, error, remove=True)
    files = size = 0
    cause: str | None = None
    kept = False
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                is_directory = entry.is_dir(follow_symlinks=False)
                here = (*parts, entry.name)
                if keep(here, is_directory):
                    kept = True
                    continue
                if is_directory:
                    removal, gone = _remove_directory(directory, entry.name, here, keep)
                    kept = kept or not gone
                else:
                    removal = _unlink(directory, entry)
                files += removal.files
                size += removal.bytes
                cause = cause or removal.error
        if not kept and cause is None:
            os.rmdir(name, dir_fd=parent)
            return Deletion(files, size), not exists(parent, name)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            cause = cause or explain(name, error)
    finally:
        os.close(directory)
    return Deletion(files, size, cause), False


def _measure_directory(parent: int, name: str, parts: Parts, keep: Keep) -> Deletion:
    if len(parts) > MAX_DEPTH:
        return Deletion(error=f"{shown(name)}: nested deeper than {MAX_DEPTH} directories")
    try:
        directory = os.open(name, DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return _not_a_directory(parent, name, error, remove=False)[0]
    total = ABSENT
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                is_directory = entry.is_dir(follow_symlinks=False)
                here = (*parts, entry.name)
                if keep(here, is_directory):
                    continue
                if is_directory:
                    total += _measure_directory(directory, entry.name, here, keep)
                else:
                    total += Deletion(1, _size(entry.stat(follow_symlinks=False)))
    except OSError as error:
        total += Deletion(error=explain(name, error))
    finally:
        os.close(directory)
    return total


def _unlink(directory: int, entry: os.DirEntry[str]) -> Deletion:
    try:
        size = _size(entry.stat(follow_symlinks=False))
        os.unlink(entry.name, dir_fd=directory)
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return Deletion(error=explain(entry.name, error))
    return Deletion(1, size)


def _not_a_directory(
    parent: int, name: str, error: OSError, *, remove: bool
) -> tuple[Deletion, bool]:
    """Handle a bundle's name that cannot be opened: a link goes as a link, a file is an error."""
    if error.errno not in (errno.ENOTDIR, errno.ELOOP):
        return Deletion(error=explain(name, error)), False
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return ABSENT, True  # It went between the two calls.
    except OSError as failure:
        return Deletion(error=explain(name, failure)), False
    if not stat.S_ISLNK(status.st_mode):
        return Deletion(error=f"{shown(name)}: is a file where a directory was expected"), False
    removal = remove_file(parent, name) if remove else measure_file(parent, name)
    return removal, removal.error is None


def _size(status: os.stat_result) -> int:
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
