"""Runs jobs in child processes that end themselves with SIGKILL at a numbered point.

A point is what comes right before a statement, a commit, or the removal of a file or directory.
So all points together are every place where a run can be cut off between two effects. The
server imports everything once and forks for each order, one JSON line in, one out.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

FILE_EVENTS = frozenset({"os.remove", "os.rmdir"})


class CrashServer:
    """The client's side."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def crash(self, *, job: str, url: str, root: Path, as_of: datetime, point: int) -> list[str]:
        """Run a job until `point`; return the names of the points that were reached."""
        order = {"job": job, "url": url, "root": str(root), "as_of": as_of.isoformat()}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**order, "point": point}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert answer["signal"] in (0, signal.SIGKILL), answer
        reached: list[str] = answer["points"]
        assert (answer["signal"] == signal.SIGKILL) == (len(reached) > point), answer
        return reached


@contextmanager
def crash_server() -> Iterator[CrashServer]:
    """Start the server for as long as the block lasts."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.crash_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield CrashServer(process)
        finally:
            process.kill()


def _serve() -> None:
    from flows.jobs import JOBS  # noqa: PLC0415 - the client's side needs none of it
    from tests.support.runs import run  # noqa: PLC0415

    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            os.environ |= {"DATABASE_URL": order["url"], "STORAGE_ROOT": order["root"]}
            _arm(writing, order["point"])
            run(JOBS[order["job"]].flow, as_of=order["as_of"])
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            points = pipe.read().splitlines()
        _, status = os.waitpid(pid, 0)
        ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        print(json.dumps({"signal": ended_by, "points": points}), flush=True)  # noqa: T201


def _arm(pipe: int, crash_at: int) -> None:
    count = 0

    def point(name: str) -> None:
        nonlocal count
        os.write(pipe, name.replace("\n", " ")[:80].encode() + b"\n")
        if count == crash_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    def audit(name: str, _arguments: tuple[Any, ...]) -> None:
        if name in FILE_EVENTS:
            point(name)

    event.listen(Engine, "before_cursor_execute", lambda *args: point(args[2]))
    event.listen(Engine, "commit", lambda _connection: point("COMMIT"))
    sys.addaudithook(audit)


if __name__ == "__main__":
    _serve()
