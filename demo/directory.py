"""The demo's folder: one demo at a time, and every demo starts fresh."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.leftovers import end_leftovers
from maintenance.errors import MaintenanceError

LOCK = "demo.lock"
"""Holds the number of the demo that runs here; a folder with this file is a demo's."""


class DirectoryRefused(MaintenanceError):
    """The demo cannot use the folder; the text says why."""


@dataclass(frozen=True)
class DemoDirectory:
    """Where the parts of a demo keep their files."""

    root: Path

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data."""
        return self.root / "postgres"

    @property
    def storage(self) -> Path:
        """Validibot's storage root."""
        return self.root / "storage"

    @property
    def prefect(self) -> Path:
        """The Prefect server's database and the home of its clients."""
        return self.root / "prefect"

    @property
    def logs(self) -> Path:
        """What the processes print."""
        return self.root / "logs"


@contextmanager
def demo_directory(root: Path) -> Iterator[DemoDirectory]:
    """Have a folder for this demo alone, empty at first; what is in it at the end stays.

    The lock dies with its holder, so that a demo that was killed does not block the next one,
    which then ends the processes that were left and starts from nothing.

    Raises:
        DirectoryRefused: another demo runs there, or the folder is not a demo's.
    """
    root.mkdir(parents=True, exist_ok=True)
    if not (root / LOCK).exists() and any(root.iterdir()):
        raise DirectoryRefused(f"{root} is neither empty nor a demo's; name another --directory")
    with (root / LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DirectoryRefused(
                f"a demo is running in {root} already (process {lock.read().strip() or 'unknown'});"
                " stop it with Ctrl-C, or name another --directory"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        directory = DemoDirectory(root)
        end_leftovers(root, directory.postgres)
        _make_fresh(directory)
        try:
            yield directory
        finally:
            end_leftovers(root, directory.postgres)


def _make_fresh(directory: DemoDirectory) -> None:
    kept = (directory.storage, directory.prefect, directory.logs)
    for folder in (*kept, directory.postgres):
        if folder.exists():
            shutil.rmtree(folder)
    for folder in kept:
        folder.mkdir()
    for name in ("private", "public"):
        (directory.storage / name).mkdir()
