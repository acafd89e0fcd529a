"""Runs `python -m MODULE` in a forked process, for a tenth of what a fresh one takes.

A fresh process spends two seconds on importing Prefect. A process of `tests/support/command_server`
is forked from one that has imported it, and the project. It is a real process with an identifier, a
working directory, an environment, standard output and standard error of its own, which any signal
reaches, and which ends as the interpreter ends it. The settings and loggers of Prefect are made
from its environment. `tests/test_commands.py` compares it with a fresh one.

What is already imported is not imported again: errors and side effects of an import do not show.
So one test of every command starts a fresh process.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tests.support.command_server import ENCODING, PYTHON_PATH, ROOT, UNBUFFERED

START = ("PREFECT_", "PYTHON")
"""What the names of variables begin with that Prefect and the interpreter read when they start."""

LOGIN = "PREFECT_API_AUTH_STRING"

OBEYED = {ENCODING, PYTHON_PATH, UNBUFFERED, "PREFECT_HOME", "PREFECT_API_URL", LOGIN}
"""The ones of them that a forked process obeys. It is not started with any other."""

CERTIFICATES = "SSL_CERT_FILE"
"""Prefect reads it at its import, so that it is not obeyed; no test uses TLS with a command."""


CODE = "tests.support.code"
"""The module that runs its first argument, as the option -c of the interpreter does."""


class Command:
    """A process like that of `subprocess.Popen`, whose output goes to files."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        encoding: str = "utf-8",
    ) -> None:
        """Start it; without `env` it gets this process's environment, but nothing of Prefect."""
        environment = dict(without_prefect() if env is None else env)
        self.args = [sys.executable, "-m", module, *arguments]
        refuse_unknown(environment)
        sys.audit("subprocess.Popen", self.args[0], self.args, str(cwd), environment)
        self.returncode: int | None = None
        self._output, self._errors = (
            tempfile.TemporaryFile("w+", encoding=encoding)  # noqa: SIM115 - read at its end
            for _ in range(2)
        )
        order = {
            "module": module,
            "arguments": arguments,
            "cwd": str(cwd.resolve()),
            "environment": environment,
        }
        reading, writing = os.pipe()
        with tempfile.TemporaryFile("w+") as file:
            json.dump(order, file)
            file.seek(0)
            files = [file.fileno(), self._output.fileno(), self._errors.fileno(), writing]
            socket.send_fds(command_server(), [b"x"], files)
        os.close(writing)
        self._pipe = os.fdopen(reading)
        self.pid = int(self._pipe.readline())

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return the exit status, which is negative after a signal."""
        if self.returncode is None:
            ready, _, _ = select.select([self._pipe], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self.returncode = int(self._pipe.readline())
            self._pipe.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; return, once, what it printed to standard output and error."""
        self.wait(timeout)
        said = []
        for file in (self._output, self._errors):
            with file:
                file.seek(0)
                said.append(file.read())
        output, errors = said
        return output, errors

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def run_command(
    module: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    encoding: str = "utf-8",
    timeout: float = 60.0,
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end, like `subprocess.run`."""
    process = Command(module, *arguments, env=env, cwd=cwd, encoding=encoding)
    try:
        output, errors = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate()
        raise AssertionError(f"{process.args} takes longer than {timeout} s: {errors}") from None
    return subprocess.CompletedProcess(process.args, process.wait(), output, errors)


def run_fresh(
    module: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    encoding: str = "utf-8",
    timeout: float = 60.0,
) -> "subprocess.CompletedProcess[str]":
    """Run it in a fresh process, as users do: for the first test of each command."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding=encoding,
        timeout=timeout,
        check=False,
    )


def without_prefect(**variables: str) -> dict[str, str]:
    """Return the environment of this process without Prefect's variables, and with others."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return own | variables


def refuse_unknown(environment: Mapping[str, str]) -> None:
    """Refuse what only a fresh process can obey, unless the server was started with it."""
    for name, value in environment.items():
        if name.startswith(START) and name not in OBEYED and inherited().get(name) != value:
            raise ValueError(f"{name} needs a fresh process")


@cache
def inherited() -> dict[str, str]:
    """Return the server's environment, the same at every call."""
    return {
        name: value
        for name, value in without_prefect().items()
        if name != CERTIFICATES and name not in OBEYED
    }


@cache
def command_server() -> socket.socket:
    """Start the server of this process; it ends with this process."""
    ours, theirs = socket.socketpair()
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.command_server", str(theirs.fileno())],
        cwd=ROOT,
        env=inherited(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )
    theirs.close()

    def stop() -> None:
        ours.close()
        server.wait()

    atexit.register(stop)
    return ours
