"""A PostgreSQL for the application that a test can stop, kill and start again."""

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

import psutil
import psycopg

from demo.embedded import ADMIN_DATABASE, EmbeddedServer, embedded_server
from tests.support.memory import temporary_folder

START_SECONDS = 60.0
STOP_SECONDS = 30.0


class Stop(Enum):
    """How the server goes down."""

    FAST = signal.SIGINT
    IMMEDIATE = signal.SIGQUIT
    KILL = signal.SIGKILL


class ApplicationServer:
    """An embedded server whose processes this test controls."""

    def __init__(self, server: EmbeddedServer, data: Path) -> None:
        """Remember how it was started."""
        self.server = server
        self._data = data
        self._command = shlex.split((data / "postmaster.opts").read_text())
        self._owner = data.stat()
        self._process: subprocess.Popen[bytes] | None = None
        self._returning: threading.Thread | None = None

    def restart(self, how: Stop, away_seconds: float) -> None:
        """Stop it, return, and start it again after some seconds."""
        self.stop(how)
        self._returning = threading.Timer(away_seconds, self.start)
        self._returning.start()

    def stop(self, how: Stop) -> None:
        """Stop it, and wait until all of its processes are gone."""
        postmaster = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        if how is Stop.KILL:
            postmaster.suspend()  # so that it starts no more children, and does not reap them
        processes = [postmaster, *postmaster.children()]
        if how is Stop.KILL:
            for process in processes:
                with suppress(psutil.NoSuchProcess):  # a session that has just ended
                    process.kill()
        else:
            postmaster.send_signal(how.value)
        if self._process is not None:
            self._process.wait(STOP_SECONDS)
        _, alive = psutil.wait_procs(processes, STOP_SECONDS)
        assert not alive, alive

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._data / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self._data,
                user=None if os.geteuid() else self._owner.st_uid,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def become_standby(self) -> None:
        """Stop it, and start it again as a standby of no primary: in recovery, for ever."""
        self.stop(Stop.FAST)
        signal_file = self._data / "standby.signal"
        signal_file.touch()
        os.chown(signal_file, self._owner.st_uid, self._owner.st_gid)
        self.start()

    def answers(self) -> bool:
        """Return whether it accepts connections."""
        address = self.server.url(ADMIN_DATABASE).render_as_string(hide_password=False)
        try:
            psycopg.connect(address).close()
        except psycopg.OperationalError:
            return False
        return True

    def wait_until_back(self) -> None:
        """Wait for the end of a restart."""
        if self._returning is not None:
            self._returning.join(START_SECONDS)
            assert not self._returning.is_alive()

    def end(self) -> None:
        """Leave it stopped."""
        self.wait_until_back()
        if self.answers():
            self.stop(Stop.IMMEDIATE)


@contextmanager
def application_server(parameters: dict[str, str]) -> Iterator[ApplicationServer]:
    """Run one for as long as the block lasts."""
    with temporary_folder() as name:
        data = Path(name) / "pg"
        with embedded_server(data, parameters) as server:
            running = ApplicationServer(server, data)
            try:
                yield running
            finally:
                running.end()
