"""Ending what a demo has left running: after it was killed, or interrupted at a bad moment.

Processes are known by the demo's folder in their environment, and PostgreSQL's, which may run as
another user and overwrite their environment, by their data folder in the command line. So no
process of anybody else is ever met, as it could be with numbers that were written down.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from demo.environment import MARKER

POSTGRES_NAMES = ("postgres", "initdb", "pg_ctl")
GRACE_SECONDS = 5.0


def end_leftovers(directory: Path, postgres_data: Path) -> int:
    """End every process of the demo in a folder but this one, and return how many there were.

    At once, because nothing that they hold is kept; PostgreSQL by its immediate shutdown, which
    gives its shared memory back.
    """
    found = list(_leftovers(directory, postgres_data))
    for process in found:
        with suppress(psutil.Error):
            process.send_signal(
                signal.SIGQUIT if process.name() in POSTGRES_NAMES else signal.SIGKILL
            )
    _, alive = psutil.wait_procs(found, timeout=GRACE_SECONDS)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=GRACE_SECONDS)
    return len(found)


def _leftovers(directory: Path, postgres_data: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            postgres = process.name() in POSTGRES_NAMES and str(postgres_data) in process.cmdline()
            if postgres or process.environ().get(MARKER) == str(directory):
                yield process
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or another user's
