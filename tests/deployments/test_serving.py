"""One signal ends the worker and what it has started, however it was started itself."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from deployments.serving import GRACE_SECONDS, KILL_SECONDS, members

END_SECONDS = 20.0
ON_TERM = "signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))"
"""What `prefect worker start` does."""
WORKER = f"""
import signal, time
{ON_TERM}
print("ready", flush=True)
try:
    time.sleep(600)
except KeyboardInterrupt:
    print("ended", flush=True)
"""
STUBBORN = """
import signal, time
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
SERVE = "from deployments import serving; serving.KILL_SECONDS = 1; import os, sys; "
SERVE += "sys.exit(serving.serve([sys.executable, '-c', sys.argv[1]], os.environ))"


def ignoring(*numbers: signal.Signals) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def served(
    code: str, log: Path, prepare: Callable[[], None] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Serve a program as the worker, from when it is ready."""
    with log.open("wb") as output:
        serving = subprocess.Popen(
            [sys.executable, "-c", SERVE, code],
            stdout=output,
            preexec_fn=prepare,  # noqa: PLW1509 - there are no threads that matter to it
            start_new_session=True,
        )
    try:
        wait_until(lambda: "ready" in log.read_text())
        yield serving
    finally:
        for group in {worker_of(serving), serving.pid}:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        serving.wait()


def worker_of(serving: subprocess.Popen[bytes]) -> int:
    """Return the worker's process, which is its group, too; the parent's when it has ended."""
    with suppress(OSError):
        children = Path(f"/proc/{serving.pid}/task/{serving.pid}/children").read_text().split()
        return int(children[0]) if children else serving.pid
    return serving.pid


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + END_SECONDS
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_one_signal_ends_the_worker(number: signal.Signals, tmp_path: Path) -> None:
    with served(WORKER, tmp_path / "log") as serving:
        worker = worker_of(serving)
        serving.send_signal(number)
        serving.wait(END_SECONDS)
        assert members(worker) == set()
    assert (tmp_path / "log").read_text() == "ready\nended\n"


def test_a_worker_that_a_script_starts_in_the_background_ends_at_sigterm(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with served(WORKER, log, partial(ignoring, signal.SIGINT)) as serving:
        serving.send_signal(signal.SIGINT)  # Ctrl-C, meant for the script
        time.sleep(0.5)
        assert serving.poll() is None
        serving.terminate()
        serving.wait(END_SECONDS)
    assert log.read_text() == "ready\nended\n"


def test_under_nohup_a_closed_terminal_does_not_end_it(tmp_path: Path) -> None:
    with served(WORKER, tmp_path / "log", partial(ignoring, signal.SIGHUP)) as serving:
        serving.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert serving.poll() is None
        assert members(worker_of(serving))
        serving.terminate()
        serving.wait(END_SECONDS)


def test_a_worker_that_does_not_end_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    assert GRACE_SECONDS + KILL_SECONDS < 30
    with served(STUBBORN, tmp_path / "log") as serving:
        worker = worker_of(serving)
        serving.terminate()
        assert serving.wait(END_SECONDS) == 128 + signal.SIGKILL
        assert members(worker) == set()
