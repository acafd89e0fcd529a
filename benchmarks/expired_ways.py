"""One way to delete expired sessions, in a process of its own: `python -m benchmarks.expired_ways`.

Prints one JSON object: rows, the moments of its beginning and end, the times of its batches, and
what it cost the database: processor seconds and WAL bytes of its own backends.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine, event, text

from benchmarks.memory import peak_kib
from flows.__main__ import main as run_job
from maintenance.database import engine_for
from maintenance.settings import settings

JOB = "clear-sessions"
TARGET_SECONDS = 0.05
KEYS_A_STATEMENT = 1_000
LONGEST_SECONDS = 60.0
"""A way that takes longer is stopped, and its rate computed from what it has done."""

DUE = "expire_date < %(cutoff)s"
WAL = "SELECT wal_bytes FROM pg_stat_get_backend_wal(%s)"


@dataclass
class Cost:
    """What one way did, and its cost."""

    rows: int = 0
    began: float = 0.0
    ended: float = 0.0
    batch_seconds: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0
    wal_bytes: int = 0
    peak_mib: float = 0.0


def main(way: str, cutoff: str) -> None:
    """Do the work, and print the cost."""
    cost = Cost(began=time.time())
    WAYS[way](cutoff, cost)
    cost.peak_mib = peak_kib() / 1024
    print(json.dumps(asdict(cost)))


class Watch:
    """Sees the transactions of this process that delete, from their BEGIN to after their COMMIT."""

    def __init__(self, engine: Engine, cost: Cost) -> None:
        self.pids: list[int] = []
        self._cost = cost
        self._began = 0.0
        self._deletes = False
        event.listen(engine, "connect", self._connect)
        event.listen(engine, "checkout", self._begin)
        event.listen(engine, "before_cursor_execute", self._execute)
        event.listen(engine, "checkin", self._end)

    def _connect(self, connection: psycopg.Connection, _record: object) -> None:
        self.pids.append(connection.info.backend_pid)

    def _begin(self, *_: object) -> None:
        self._began, self._deletes = time.perf_counter(), False

    def _execute(self, *call: Any) -> None:  # noqa: ANN401 - what the event hands over
        self._deletes = self._deletes or "DELETE FROM" in call[2]

    def _end(self, *_: object) -> None:
        if self._deletes:
            self._cost.batch_seconds.append(time.perf_counter() - self._began)


def ours(cutoff: str, cost: Cost) -> None:
    """Run the flow as `python -m flows` does, and watch its transactions."""
    engine = engine_for(settings(), JOB)
    watch = Watch(engine, cost)
    with redirect_stdout(StringIO()) as printed:
        cost.began = time.time()
        status = run_job([JOB, "--json", "--as-of", cutoff])
        cost.ended = time.time()
    if status != 0:
        raise RuntimeError(printed.getvalue())
    cost.rows = json.loads(printed.getvalue())["done"]
    with engine.connect() as first, engine.connect() as second:
        for connection in (first, second):
            connection.execute(text("SELECT pg_stat_force_next_flush()"))
            connection.commit()
        _measure(cost, watch.pids)


def one_delete(cutoff: str, cost: Cost) -> None:
    """Delete everything with one plain statement."""
    with _connection(cost) as connection, _batch(cost):
        statement = f"DELETE FROM django_session WHERE {DUE}"  # noqa: S608 - a constant
        cost.rows = connection.execute(statement, {"cutoff": cutoff}).rowcount


def limit_loop(cutoff: str, cost: Cost) -> None:
    """Delete the first n rows again and again, with n adapted to the same target time."""
    size = 1_000
    statement = (
        "DELETE FROM django_session WHERE ctid = ANY(ARRAY(SELECT ctid FROM django_session"  # noqa: S608
        f" WHERE {DUE} ORDER BY expire_date LIMIT %(size)s FOR UPDATE SKIP LOCKED))"
    )
    with _connection(cost) as connection:
        while time.time() - cost.began < LONGEST_SECONDS:
            with _batch(cost):
                values = {"cutoff": cutoff, "size": size}
                rows = connection.execute(statement, values).rowcount
            cost.rows += rows
            if rows < size:
                return
            fitting = int(rows * TARGET_SECONDS / cost.batch_seconds[-1])
            size = max(1, min(size * 2, fitting))


def keys_first(cutoff: str, cost: Cost) -> None:
    """Load every key, then delete by key, all in one transaction."""
    select = f"SELECT session_key FROM django_session WHERE {DUE}"  # noqa: S608
    with _connection(cost) as connection, _batch(cost), connection.transaction():
        keys = [row[0] for row in connection.execute(select, {"cutoff": cutoff}).fetchall()]
        for place in range(0, len(keys), KEYS_A_STATEMENT):
            if time.time() - cost.began > LONGEST_SECONDS:
                return
            cost.rows += connection.execute(
                "DELETE FROM django_session WHERE session_key = ANY(%s)",
                (keys[place : place + KEYS_A_STATEMENT],),
            ).rowcount


WAYS: dict[str, Callable[[str, Cost], None]] = {
    "ours": ours,
    "one DELETE": one_delete,
    "LIMIT loop": limit_loop,
    "keys first": keys_first,
}


@contextmanager
def _connection(cost: Cost) -> Iterator[psycopg.Connection]:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        cost.began = time.time()
        yield connection
        cost.ended = time.time()
        connection.execute("SELECT pg_stat_force_next_flush()")
        _measure(cost, [connection.info.backend_pid])


@contextmanager
def _batch(cost: Cost) -> Iterator[None]:
    started = time.perf_counter()
    yield
    cost.batch_seconds.append(time.perf_counter() - started)


def _measure(cost: Cost, pids: list[int]) -> None:
    """Read what the backends have used up since they started."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as reader:
        for pid in pids:
            used = Path(f"/proc/{pid}/schedstat").read_text().split()[0]
            cost.cpu_seconds += int(used) / 1e9
            row = reader.execute(WAL, (pid,)).fetchone()
            cost.wal_bytes += int(row[0]) if row else 0


if __name__ == "__main__":
    main(*sys.argv[1:])
