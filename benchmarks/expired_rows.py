"""How expired rows are deleted: ours, beside one plain DELETE and two common other ways.

Run it with `python -m benchmarks.expired_rows [--rows 2500000]`. Four fifths of the sessions are
expired. Each way works on a copy of the same table, in a process of its own, beside another client
that saves a live session of that table about every 2 ms; once with the rows in the order of their
expiry and once shuffled, and both once more while another session holds an old snapshot. Ours and
the plain DELETE take turns, three each; what is printed is the one with the median processor time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median

import psycopg
from sqlalchemy import create_engine

from benchmarks.client import Latency, live_sessions, other_client
from benchmarks.expired_ways import WAYS, Cost
from benchmarks.stage import SERVER_PARAMETERS, machine
from demo.embedded import EmbeddedServer, embedded_server
from maintenance.schema.versions import create_tables
from maintenance.settings import DRIVER

CUTOFF = "2026-01-01T00:00:00+00:00"
EXPIRED_SHARE = 0.8
TURNS = 3
READS = {"io_method": "sync"}
"""Each backend reads for itself. With the I/O workers of PostgreSQL 18, the processor time of reads
would be charged to the backend for a scan by blocks, and to other processes for a plain DELETE."""
JUDGED = ("ours", "one DELETE")
"""Measured in each turn; the others, which are far slower, once."""
BODY = "x" * 200
ORDERS = {"ordered": "number", "shuffled": "hashint8(number::bigint)"}
HEADER = (
    "| rows | way | rows/s | backend CPU µs/row | of one DELETE | WAL bytes/row | of one DELETE"
    " | batches p50 / max ms | client p50 / p99 / max ms | peak MiB |\n"
    "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_500_000, help="sessions (default 2,500,000)")
    rows = parser.parse_args().rows
    with (
        tempfile.TemporaryDirectory(prefix="vb-", ignore_cleanup_errors=True) as directory,
        embedded_server(Path(directory) / "pg", SERVER_PARAMETERS | READS) as server,
    ):
        print(f"{machine()}\n{rows:,} sessions, {EXPIRED_SHARE:.0%} of them expired\n")
        print(HEADER, flush=True)
        for order, expression in ORDERS.items():
            _fill(server, order, expression, rows)
            for snapshot in (False, True):
                scene = f"{order}, old snapshot" if snapshot else order
                _compare(server, order, scene, snapshot=snapshot)
            server.drop_database(order)


def _compare(server: EmbeddedServer, template: str, scene: str, *, snapshot: bool) -> None:
    runs: dict[str, list[tuple[Cost, Latency]]] = {way: [] for way in WAYS}
    for turn in range(TURNS):
        # In turns, so that whatever else the machine does meets all alike.
        for way, done in runs.items():
            if turn == 0 or way in JUDGED:
                done.append(_run(server, template, way, snapshot=snapshot))
    measured = {way: _median_cpu(done) for way, done in runs.items()}
    limit, _ = measured["one DELETE"]
    for way, (cost, latency) in measured.items():
        cpu, wal = cost.cpu_seconds / cost.rows, cost.wal_bytes / cost.rows
        batches = [1000 * seconds for seconds in cost.batch_seconds]
        print(
            f"| {scene} | {way} | {cost.rows / (cost.ended - cost.began):,.0f}"
            f" | {1e6 * cpu:.2f} | {cpu * limit.rows / limit.cpu_seconds:.2f}"
            f" | {wal:.0f} | {wal * limit.rows / limit.wal_bytes:.3f}"
            f" | {median(batches):.0f} / {max(batches):.0f}"
            f" | {median(latency.samples):.1f} / {latency.percentile(0.99):.1f}"
            f" / {max(latency.samples):.1f} | {cost.peak_mib:,.0f} |",
            flush=True,
        )


def _median_cpu(runs: list[tuple[Cost, Latency]]) -> tuple[Cost, Latency]:
    """Return the run whose processor time a row is the median."""
    ordered = sorted(runs, key=lambda run: run[0].cpu_seconds / run[0].rows)
    return ordered[len(ordered) // 2]


def _run(
    server: EmbeddedServer, template: str, way: str, *, snapshot: bool
) -> tuple[Cost, Latency]:
    url = server.create_database("work", template=template).render_as_string(hide_password=False)
    try:
        with psycopg.connect(url, autocommit=True) as admin:
            # From the same state for each way: everything in memory, and a checkpoint just done.
            admin.execute("SELECT sum(length(session_data)) FROM django_session")
            admin.execute("CHECKPOINT")
        with (
            _old_snapshot(url) if snapshot else nullcontext(),
            other_client(url, live_sessions) as latency,
        ):
            time.sleep(1)
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.expired_ways", way, CUTOFF],
                env={**os.environ, "DATABASE_URL": url},
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            raise RuntimeError(done.stderr[-2_000:])
        cost = Cost(**json.loads(done.stdout.splitlines()[-1]))
        return cost, latency.between(cost.began, cost.ended)
    finally:
        server.drop_database("work")


@contextmanager
def _old_snapshot(url: str) -> Iterator[None]:
    with psycopg.connect(url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT 1")
        yield


def _fill(server: EmbeddedServer, name: str, order: str, rows: int) -> None:
    url = server.create_database(name)
    engine = create_engine(url.set(drivername=DRIVER))
    create_tables(engine)
    engine.dispose()
    fill = (
        "INSERT INTO django_session SELECT md5(number::text), %(body)s || md5(number::text),"  # noqa: S608
        " %(cutoff)s::timestamptz + make_interval(secs => number - %(expired)s)"
        f" FROM generate_series(0, %(rows)s - 1) AS number ORDER BY {order}"
    )
    values = {"body": BODY, "cutoff": CUTOFF, "expired": rows * EXPIRED_SHARE, "rows": rows}
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(fill, values)
        connection.execute("VACUUM ANALYZE django_session")


if __name__ == "__main__":
    main()
