"""Preflight of the storage: every root exists and can be read and written.

Writing is tried with a file that has no name, so that a crash leaves nothing behind; where the file
system has no such files, with a temporary file that is removed.
"""

import errno
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from maintenance.checks.finding import Check, Finding, error, not_checked, ok, warning
from maintenance.checks.rights import rights_check
from maintenance.database import engine_for
from maintenance.errors import DatabaseError, StorageError
from maintenance.settings import Settings
from maintenance.storage.adoption import ACTION, ADOPT, Adoption, examine_roots
from maintenance.storage.local_root import open_root
from maintenance.storage.probe import PREFIX
from maintenance.storage.roots import BUNDLES, PRIVATE, PUBLIC, open_roots

JOB = "check storage"
BUCKETS = "storage buckets"
MAX_ENTRIES = 200
"""Entries of a root that are checked."""
MAX_NAMED = 5

NO_NAMELESS_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


def storage_checks(settings: Settings) -> list[Check]:
    """Return one check per root, so that one that hangs does not hide the others."""
    names = [PRIVATE, PUBLIC]
    if settings.data_storage_backend == "gcs" or settings.bundle_root != settings.private_root:
        names.append(BUNDLES)
    markers = Check(tuple(map(_marker, names)), lambda: check_markers(settings, names))
    if settings.data_storage_backend != "local":
        return [Check((BUCKETS,), lambda: [_buckets(settings)]), markers]
    places = {
        PRIVATE: settings.private_root,
        PUBLIC: settings.public_root,
        BUNDLES: settings.bundle_root,
    }
    checks = []
    for one in names:
        name, root, required = f"storage {one}", places[one], one != PUBLIC
        checks.append(_root(name, root, required=required))
        checks.append(rights_check(name, root, settings, required=required))
    return [*checks, markers]


def check_markers(settings: Settings, names: Sequence[str]) -> list[Finding]:
    """Return for each root whether it is known to be the application's (SPEC 10.1)."""
    try:
        with ExitStack() as opened:
            roots = open_roots(settings, opened)
            adoptions = examine_roots(engine_for(settings, JOB), roots)
    except DatabaseError:
        return not_checked([*map(_marker, names)], "the database cannot be used")
    except StorageError as problem:
        return not_checked([*map(_marker, names)], str(problem))
    found = {one.state.root.name: one for one in adoptions}
    return [_state(name, found.get(name)) for name in names]


def _state(name: str, found: Adoption | None) -> Finding:
    marker = _marker(name)
    if found is None:
        return ok(marker, "DATA_STORAGE_ROOT leads to another root")
    place, problem = found.state.root.store.place, found.state.problem
    if problem is None:
        if found.state.root.store.absent:
            return ok(marker, f"{place} is absent, and was never used")
        return ok(marker, f"{place} is adopted by this application")
    text = f"{place} {problem}: {found.findings}"
    if found.state.adoptable and found.findings.certain:
        return warning(marker, text, f"the next purge job adopts it, or `{ADOPT}`")
    return error(marker, text, ACTION)


def _marker(name: str) -> str:
    return f"storage {name} marker"


def check_root(name: str, root: Path, *, required: bool = True) -> Finding:
    """Return whether a directory can be used as a root."""
    try:
        directory = open_root(root, required=required)
    except StorageError as problem:
        action = "set STORAGE_ROOT and DATA_STORAGE_ROOT as Validibot does"
        return error(name, str(problem), action)
    if directory is None:
        return ok(name, f"{root} is absent")
    try:
        with os.scandir(directory) as entries:
            folders = [
                entry.name
                for entry in islice(entries, MAX_ENTRIES)
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(PREFIX)
            ]
        _write(root, directory)
        locked = [folder for folder in folders if not _usable(directory, folder)]
    except OSError as problem:
        return error(name, f"{root}: {problem.strerror}", _give_access())
    finally:
        os.close(directory)
    if locked:
        named = ", ".join(sorted(locked)[:MAX_NAMED])
        text = f"{root}: {len(locked)} folders may not be changed: {named}"
        return error(name, text, _give_access())
    return ok(name, f"{root} can be read and written")


def _root(name: str, root: Path, *, required: bool = True) -> Check:
    return Check((name,), lambda: [check_root(name, root, required=required)])


def _give_access() -> str:
    user = os.geteuid()
    return f"mount it writable, and give user {user} the same access as Validibot's own user"


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
        with ExitStack() as opened:
            open_roots(settings, opened)
    except StorageError as problem:
        action = "see docs/buckets.md for the buckets' variables, credentials and permissions"
        return error(BUCKETS, str(problem), action)
    return ok(BUCKETS, f"can be listed: {', '.join(filter(None, names))}")
