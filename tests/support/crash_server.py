"""Runs jobs in child processes that end themselves with SIGKILL at a numbered point.

A point is what comes right before a statement, a commit, the removal of a file or directory, or
before a file is made, linked or renamed.
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
from threading import RLock
from typing import Any

from sqlalchemy import Engine, event

FILE_EVENTS = frozenset({"os.remove", "os.rmdir", "os.mkdir", "os.link", "os.rename"})
OPENED = "open"
CREATED = "open to create"
NEVER = sys.maxsize
"""A point that no run reaches."""


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
            _arm(writing, order["point"], order["root"])
            run(JOBS[order["job"]].flow, as_of=order["as_of"])
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            points = pipe.read().splitlines()
        _, status = os.waitpid(pid, 0)
        ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        print(json.dumps({"signal": ended_by, "points": points}), flush=True)  # noqa: T201


def _arm(pipe: int, crash_at: int, root: str) -> None:
    count = 0
    lock = RLock()  # files are written by several threads

    def point(name: str) -> None:
        nonlocal count
        with lock:
            os.write(pipe, name.replace("\n", " ")[:80].encode() + b"\n")
            if count == crash_at:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

    def creates(path: object, flags: int) -> bool:
        """Tell whether a file of the storage is made: by its path, or below an open directory."""
        is_ours = isinstance(path, str) and (not path.startswith("/") or path.startswith(root))
        return is_ours and bool(flags & os.O_CREAT)

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        if name in FILE_EVENTS:
            point(name)
        elif name == OPENED and creates(arguments[0], arguments[2]):
            point(CREATED)

    event.listen(Engine, "before_cursor_execute", lambda *args: point(args[2]))
    event.listen(Engine, "commit", lambda _connection: point("COMMIT"))
    sys.addaudithook(audit)


if __name__ == "__main__":
    _serve()
