"""Runs jobs in processes that end themselves with SIGKILL at a numbered point.

A point is what comes right before a statement, a commit, the removal of a file or directory, or
before a file is made, linked or renamed.
So all points together are every place where a run can be cut off between two effects.
"""

import json
import os
import signal
import sys
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import Any

from sqlalchemy import Engine, event

from tests.support.commands import Command, without_prefect

FILE_EVENTS = frozenset({"os.remove", "os.rmdir", "os.mkdir", "os.link", "os.rename"})
OPENED = "open"
CREATED = "open to create"
NEVER = sys.maxsize
"""A point that no run reaches."""


CRASH_SECONDS = 60.0


def crash(*, job: str, url: str, root: Path, as_of: datetime, point: int) -> list[str]:
    """Run a job until `point`; return the names of the points that were reached."""
    process = Command(
        "tests.support.crash_run",
        json.dumps({"job": job, "as_of": as_of.isoformat(), "point": point}),
        env=without_prefect(DATABASE_URL=url, STORAGE_ROOT=str(root)),
    )
    said, errors = process.communicate(CRASH_SECONDS)
    assert process.returncode in (0, -signal.SIGKILL), errors
    reached = said.splitlines()
    assert (process.returncode == -signal.SIGKILL) == (len(reached) > point), errors
    return reached


def _run(order: dict[str, Any]) -> None:
    from flows.jobs import JOBS  # noqa: PLC0415 - the client's side needs none of it
    from tests.support.runs import run  # noqa: PLC0415

    _arm(sys.stdout.fileno(), order["point"], os.environ["STORAGE_ROOT"])
    run(JOBS[order["job"]].flow, as_of=order["as_of"])
    # What the interpreter does at its end reaches no point.
    os._exit(0)


def _arm(output: int, crash_at: int, root: str) -> None:
    count = 0
    lock = RLock()  # files are written by several threads

    def point(name: str) -> None:
        nonlocal count
        with lock:
            os.write(output, name.replace("\n", " ")[:80].encode() + b"\n")
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
    _run(json.loads(sys.argv[1]))
