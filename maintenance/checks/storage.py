"""Preflight of the storage: every root is there, can be read, and can be written.

Whether a directory can be written is tried with a file that has no name, so that nothing is left
behind, not even by a crash; where the file system knows no such files, with one that is removed.
"""

import errno
import os
import tempfile
from itertools import islice
from pathlib import Path

from maintenance.checks.finding import Check, Finding, error, ok
from maintenance.errors import StorageError
from maintenance.settings import Settings
from maintenance.storage.layout import open_stores

BUCKETS = "storage buckets"
MAX_ENTRIES = 200
"""So many of a root's entries are looked at."""
MAX_NAMED = 5

NO_NAMELESS_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


def storage_checks(settings: Settings) -> list[Check]:
    """Return the checks of all roots, each of its own: one that hangs does not hide the others."""
    if settings.data_storage_backend != "local":
        return [Check((BUCKETS,), lambda: [_buckets(settings)])]
    private, public = settings.private_root, settings.public_root
    checks = [_root("storage private", private), _root("storage public", public, required=False)]
    if settings.bundle_root != private:
        checks.append(_root("storage bundles", settings.bundle_root))
    return checks


def look_at_root(name: str, root: Path, *, required: bool = True) -> Finding:
    """Say whether a directory can be used as a root."""
    try:
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        if problem.errno == errno.ENOENT and not required:
            return ok(name, f"{root} is absent: no bundle of the older layout")
        return error(
            name,
            f"{root}: {problem.strerror}",
            "mount Validibot's storage here, and let STORAGE_ROOT and DATA_STORAGE_ROOT be its own",
        )
    try:
        with os.scandir(directory) as entries:
            folders = [
                entry.name
                for entry in islice(entries, MAX_ENTRIES)
                if entry.is_dir(follow_symlinks=False)
            ]
        _write(root, directory)
        closed = [folder for folder in folders if not _usable(directory, folder)]
    except OSError as problem:
        return error(name, f"{root}: {problem.strerror}", _let_in())
    finally:
        os.close(directory)
    if closed:
        named = ", ".join(sorted(closed)[:MAX_NAMED])
        return error(name, f"{root}: {len(closed)} folders may not be changed: {named}", _let_in())
    return ok(name, f"{root} can be read and written")


def _root(name: str, root: Path, *, required: bool = True) -> Check:
    return Check((name,), lambda: [look_at_root(name, root, required=required)])


def _let_in() -> str:
    user = os.geteuid()
    return f"mount it writable, and let user {user} read and write it as Validibot's own user does"


def _write(root: Path, directory: int) -> None:
    nameless = getattr(os, "O_TMPFILE", None)
    if nameless is not None:
        try:
            descriptor = os.open(".", nameless | os.O_WRONLY, 0o600, dir_fd=directory)
        except OSError as problem:
            if problem.errno not in NO_NAMELESS_FILES:
                raise
        else:
            try:
                os.write(descriptor, b"x")
            finally:
                os.close(descriptor)
            return
    with tempfile.NamedTemporaryFile(dir=root, prefix=".validibot-maintenance-") as file:
        file.write(b"x")
        file.flush()


def _usable(directory: int, name: str) -> bool:
    rights = os.R_OK | os.W_OK | os.X_OK
    return os.access(name, rights, dir_fd=directory, effective_ids=True)


def _buckets(settings: Settings) -> Finding:
    names = [settings.storage_bucket]
    if settings.data_storage_backend == "gcs":
        names.append(settings.gcs_validation_bucket)
    try:
        with open_stores(settings):
            pass
    except StorageError as problem:
        action = "docs/operating.md has the buckets' variables, credentials and permissions"
        return error(BUCKETS, str(problem), action)
    return ok(BUCKETS, f"can be listed: {', '.join(filter(None, names))}")
