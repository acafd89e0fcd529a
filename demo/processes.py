"""The demo's child processes: each with a log file, a time-out on every wait, and a sure end."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from maintenance.errors import MaintenanceError

POLL_SECONDS = 0.2
TAIL_LINES = 12


class ChildFailed(MaintenanceError):
    """A child process ended, or did not get ready in time; the text has its last words."""


def last_words(log: Path) -> str:
    """Return the end of a log, and where the whole log is."""
    lines = log.read_text(errors="replace").strip().splitlines()[-TAIL_LINES:]
    return f"; the end of {log}:\n" + "\n".join(f"  {line}" for line in lines)


@dataclass(frozen=True)
class Child:
    """A child process that is running, or has run."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise `ChildFailed` if it has ended."""
        status = self.process.poll()
        if status is not None:
            raise ChildFailed(f"{self.name} ended with status {status}{self.last_words()}")

    def wait(self, seconds: float) -> None:
        """Wait for it to end well.

        Raises:
            ChildFailed: it ended with an error, or not in time.
        """
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise ChildFailed(f"{self.name} took longer than {seconds:.0f} s") from None
        if status:
            self.check()

    def said(self) -> str:
        """Return what it has printed."""
        return self.log.read_text(errors="replace").strip()

    def last_words(self) -> str:
        """Return the end of its log, and where the whole log is."""
        return last_words(self.log)

    def kill(self) -> None:
        """End it and all that it has started without asking, wherever they are in their work."""
        with suppress(psutil.NoSuchProcess):
            started = psutil.Process(self.process.pid).children(recursive=True)
            for process in (psutil.Process(self.process.pid), *started):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()

    def stop(self, seconds: float) -> None:
        """End it: asked first, then it and all that it has started without asking."""
        if self.process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def start_child(
    name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> Child:
    """Start a command.

    It gets a session of its own, so that a Ctrl-C in the terminal reaches the demo alone, which
    then ends its children in order.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Child(name, process, log)


def wait_until(
    ready: Callable[[], bool], seconds: float, what: str, children: Sequence[Child]
) -> None:
    """Wait for something that children bring about.

    Raises:
        ChildFailed: one of them has ended, or it took too long.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        for child in children:
            child.check()
        if time.monotonic() > deadline:
            words = children[0].last_words() if children else ""
            raise ChildFailed(f"{what} took longer than {seconds:.0f} s{words}")
        time.sleep(POLL_SECONDS)
