"""`python -m deployments.serving COMMAND...`: a worker that takes its runs along when it ends.

`prefect worker start` ends on SIGTERM at once and kills the processes of its runs, which then say
Running until an automation finds them. So the worker is started by this process, which passes
nothing on at first: it asks the runs to stop, which end as Cancelled after the batch that is going
on, waits for them, and then ends the worker. A second signal ends the worker and its runs at once.

The runs are asked by a signal that everything in the worker's process group ignores until it is
ready for it, so a run that is just starting is not killed but asked again. Runs that start in
containers of their own, as with work pools of type docker and kubernetes, are not in the group:
they go on without their worker.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from maintenance.stop_request import REPEATABLE

GRACE_SECONDS = 25.0
"""A batch takes half a second, the longest statement 30. Leave whoever stops us 5 seconds more."""
AGAIN_SECONDS = 0.5
PROC = Path("/proc")


def serve(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the worker until it ends; return its exit status, 128 and the signal's number if any."""
    signal.signal(REPEATABLE, signal.SIG_IGN)  # is inherited
    worker = subprocess.Popen(list(command), env=dict(environment), process_group=0)

    def stop(_number: int, _frame: FrameType | None) -> None:
        for taken in (signal.SIGTERM, signal.SIGINT):
            signal.signal(taken, end)
        _ask_runs(worker.pid)
        _signal_group(worker.pid, signal.SIGTERM)

    def end(_number: int, _frame: FrameType | None) -> None:
        _signal_group(worker.pid, signal.SIGKILL)

    for taken in (signal.SIGTERM, signal.SIGINT):
        signal.signal(taken, stop)
    status = worker.wait()
    return status if status >= 0 else 128 - status


def _ask_runs(worker: int) -> None:
    """Ask all runs to stop, again and again, until none is left or the time of grace is over."""
    deadline = time.monotonic() + GRACE_SECONDS
    while members(worker) - {worker} and time.monotonic() < deadline:
        _signal_group(worker, REPEATABLE)
        time.sleep(AGAIN_SECONDS)


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # all have ended
        os.killpg(group, number)


def members(group: int) -> set[int]:
    """Return the living processes of a process group."""
    rows = _from_proc() if PROC.joinpath("self/stat").exists() else _from_ps()
    return {pid for pid, its_group, state in rows if its_group == group and state != "Z"}


def _from_proc() -> list[tuple[int, int, str]]:
    rows = []
    for path in PROC.glob("[0-9]*/stat"):
        try:
            # The name comes second, in parentheses, and may hold anything.
            state, _parent, group, *_ = path.read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue  # it has ended meanwhile
        rows.append((int(path.parent.name), int(group), state))
    return rows


def _from_ps() -> list[tuple[int, int, str]]:
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,pgid=,state="],  # noqa: S607 - the system's own
        capture_output=True,
        text=True,
        check=True,
    )
    rows = (line.split() for line in listed.stdout.splitlines())
    return [(int(pid), int(group), state[0]) for pid, group, state in rows]


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:], os.environ))
