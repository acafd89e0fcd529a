"""`python -m deployments.serving COMMAND...`: run a worker, and stop its runs before it ends.

On SIGTERM, `prefect worker start` kills the processes of its runs, which become zombie runs until
an automation finds them. So this process starts the worker and handles the signal itself: it sends
the runs a stop request, waits until they have ended as Cancelled after their current batch, and
then ends the worker. What has not ended by then is killed; a second signal does so at once.

The signals are SIGTERM, SIGINT (Ctrl-C) and SIGHUP (a closed terminal). One that is ignored at the
start stays ignored: SIGINT of a script's background job, SIGHUP under nohup.

The stop request is a signal that every process in the worker's process group ignores until it is
ready to handle it. A run that is starting is therefore not killed, and gets the request again. Runs
in containers of their own (work pools of type docker and kubernetes) are not in the process group:
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
"""A batch takes half a second, the longest statement 30. Supervisors must wait 5 seconds longer."""
KILL_SECONDS = 4
"""From the end of the grace period, when worker and runs get SIGTERM, to SIGKILL."""
AGAIN_SECONDS = 0.5
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PROC = Path("/proc")


def serve(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the worker until it ends; return its exit status, or 128 plus the signal's number."""
    signal.signal(REPEATABLE, signal.SIG_IGN)  # inherited by the worker
    handled = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    # Prefect's worker turns SIGTERM into SIGINT, so it must not inherit that SIGINT is ignored.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    worker = subprocess.Popen(list(command), env=dict(environment), process_group=0)
    signal.signal(signal.SIGINT, interrupt)

    def stop(_number: int, _frame: FrameType | None) -> None:
        for taken in handled:
            signal.signal(taken, end)
        _stop_runs(worker.pid)
        _signal_group(worker.pid, signal.SIGTERM)
        signal.signal(signal.SIGALRM, end)
        signal.alarm(KILL_SECONDS)

    def end(_number: int, _frame: FrameType | None) -> None:
        _signal_group(worker.pid, signal.SIGKILL)

    for taken in handled:
        signal.signal(taken, stop)
    status = worker.wait()
    return status if status >= 0 else 128 - status


def _stop_runs(worker: int) -> None:
    """Repeat the stop request to all runs until none is left or the grace period is over."""
    deadline = time.monotonic() + GRACE_SECONDS
    while members(worker) - {worker} and time.monotonic() < deadline:
        _signal_group(worker, REPEATABLE)
        time.sleep(AGAIN_SECONDS)


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # all have ended
        os.killpg(group, number)


def members(group: int) -> set[int]:
    """Return the processes of a process group that have not ended."""
    rows = _from_proc() if PROC.joinpath("self/stat").exists() else _from_ps()
    return {pid for pid, its_group, state in rows if its_group == group and state != "Z"}


def _from_proc() -> list[tuple[int, int, str]]:
    rows = []
    for path in PROC.glob("[0-9]*/stat"):
        try:
            # The second field is the name, in parentheses, and may contain any character.
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
