"""A probe of a local root: a small tree of other users, which is written to and deleted (SPEC 9).

The tree is like an attempt of a validator: a sticky directory of the application, and in it a
directory of the container's user. It is written to and deleted with the code of the jobs. A process
that is killed leaves the probe behind. Its name and a lock tell the next one that it is no longer
in use.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from secrets import token_hex

from maintenance.storage.capabilities import CHOWN, DAC_OVERRIDE, FOWNER
from maintenance.storage.directories import DIRECTORY
from maintenance.storage.local_saving import save_files
from maintenance.storage.permit import ALWAYS
from maintenance.storage.store import keep_nothing
from maintenance.storage.walk import remove_tree

PREFIX = ".validibot-maintenance-probe-"
"""How the name of a probe begins; nothing else in a root is called so."""

VALIDATOR = 1_000
"""The user and group of Validibot's validator containers."""

NOT_ALLOWED = frozenset({errno.EPERM, errno.EACCES, errno.EINVAL})
"""EINVAL: the user does not exist in the user namespace of this process."""

MAX_SECONDS = 600
"""A probe takes less, so an older one is no longer in use."""

EVIDENCE, OUTPUT = "attempt/evidence", "attempt/output"
MANIFEST = f"{EVIDENCE}/1/manifest.json"


@dataclass(frozen=True)
class Probed:
    """The result of a probe.

    Attributes:
        refused: the capabilities whose lack showed, or that the file system does not honour.
        problem: another reason why the probe did not work.
    """

    refused: frozenset[str] = frozenset()
    problem: str | None = None


def probe(root: int) -> Probed:
    """Make a probe in an open root, and remove it.

    Raises:
        OSError: it cannot be made or removed.
    """
    with _probe(root) as (name, directory):
        users = _users(os.fstat(root).st_uid)
        if not _build(directory, *users):
            return Probed(frozenset({CHOWN}))
        refused = set()
        if not _allowed(lambda: os.unlink(f"{OUTPUT}/outputs/file", dir_fd=directory)):
            refused.add(DAC_OVERRIDE)
        if not _allowed(lambda: os.rmdir(f"{OUTPUT}/empty", dir_fd=directory)):
            refused.add(FOWNER)
        if refused:
            return Probed(frozenset(refused))
        (saved,) = save_files(directory, [(MANIFEST, b"{}")])
        problem = saved.error or _not_like(directory, users[0])
        if problem is None:
            problem = remove_tree(root, name, keep_nothing, ALWAYS).error
        return Probed(problem=problem)


def remove_leftovers(root: int) -> list[str]:
    """Remove the probes of processes that were killed; return the names of those that stay.

    Raises:
        OSError: the root cannot be listed.
    """
    with os.scandir(root) as entries:
        found = [one.name for one in entries if one.name.startswith(PREFIX)]
    stay = []
    for name in found:
        try:
            directory = os.open(name, DIRECTORY, dir_fd=root)
            try:
                if not _in_use(directory):
                    _take_away(root, name)
            finally:
                os.close(directory)
        except FileNotFoundError:
            continue
        except OSError:
            stay.append(name)
    return stay


def _in_use(directory: int) -> bool:
    """Return whether the process that made a probe is alive: it holds a lock on it."""
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # A file system without locks.
        return time.time() - os.fstat(directory).st_mtime < MAX_SECONDS
    return False


@contextmanager
def _probe(root: int) -> Iterator[tuple[str, int]]:
    """Make an empty probe, and remove it with all that is in it."""
    name = f"{PREFIX}{token_hex(4)}"
    os.mkdir(name, 0o700, dir_fd=root)
    try:
        directory = os.open(name, DIRECTORY, dir_fd=root)
        try:
            with suppress(OSError):  # A file system without locks.
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield name, directory
        finally:
            os.close(directory)
    finally:
        with suppress(FileNotFoundError):
            _take_away(root, name)


def _users(owner: int) -> tuple[int, int]:
    """Return two other users than this one: for the application, and for its containers."""
    own = os.geteuid()
    validator = VALIDATOR if own != VALIDATOR else VALIDATOR + 1
    application = owner if owner not in (own, validator) else VALIDATOR + 2
    return application, validator


def _build(probe: int, application: int, validator: int) -> bool:
    """Make the tree; return whether it could be given to its users."""
    plan = (
        (f"{OUTPUT}/outputs", validator, 0o755),
        (f"{OUTPUT}/empty", validator, 0o755),
        (OUTPUT, application, 0o1777),
        (EVIDENCE, application, 0o750),
        ("attempt", application, 0o755),
    )
    for path, _, _ in reversed(plan):
        os.mkdir(path, dir_fd=probe)
    file = f"{OUTPUT}/outputs/file"
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=probe))

    def give() -> None:
        os.chown(file, validator, validator, dir_fd=probe, follow_symlinks=False)
        for path, user, mode in plan:  # From below: what was given away may be closed to us.
            os.chmod(path, mode, dir_fd=probe)
            os.chown(path, user, user, dir_fd=probe, follow_symlinks=False)

    return _allowed(give)


def _allowed(act: Callable[[], None]) -> bool:
    try:
        act()
    except OSError as error:
        if error.errno not in NOT_ALLOWED:
            raise
        return False
    return True


def _not_like(probe: int, application: int) -> str | None:
    """Return why the manifest is not as its directory, None when it is."""
    expected = {EVIDENCE: 0o750, f"{EVIDENCE}/1": 0o750, MANIFEST: 0o640}
    for path, mode in expected.items():
        found = os.stat(path, dir_fd=probe, follow_symlinks=False)
        owned = (found.st_uid, found.st_gid) == (application, application)
        if not owned or stat.S_IMODE(found.st_mode) != mode:
            return "what is written does not get the owner and mode of its directory"
    return None


def _take_away(parent: int, name: str) -> None:
    """Remove a tree of a probe, whatever its owner: with CHOWN alone it is taken back first.

    Raises:
        OSError: it cannot be removed.
    """
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if found.st_uid != os.geteuid():
        with suppress(OSError):
            os.chown(name, os.geteuid(), -1, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=parent)
        return
    with suppress(OSError):
        os.chmod(name, 0o700, dir_fd=parent)
    directory = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries]
        for below in names:
            _take_away(directory, below)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=parent)
