"""Running one way of doing the work in a process of its own, and what it cost."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg

from benchmarks.client import Latency, other_client
from benchmarks.stage import Copy

SAMPLE_SECONDS = 0.005
LONGEST = (
    "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)"
    " FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name LIKE 'validibot-maintenance%'"
)


@dataclass(frozen=True)
class Outcome:
    """What one way did, and what it cost.

    Attributes:
        items: what it worked on.
        seconds: wall time of the work, without the start of the interpreter.
        peak_mib: most memory that the process had.
        longest_transaction: seconds, sampled.
        latency: what the other client met meanwhile.
    """

    items: int
    seconds: float
    peak_mib: float
    longest_transaction: float
    latency: Latency

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items / self.seconds if self.seconds else 0.0


def run_way(copy: Copy, command: Sequence[str], extra: Mapping[str, str] | None = None) -> Outcome:
    """Run a command that prints a JSON object with `done` and `duration_seconds`.

    Raises:
        RuntimeError: it failed.
    """
    environment = {**os.environ, **copy.environment, **(extra or {})}
    url = copy.environment["DATABASE_URL"]
    longest = _Longest(url)
    with other_client(url) as latency:
        longest.start()
        process = subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None  # noqa: S101 - it was asked for
        output, errors = process.communicate()
        longest.stop()
    if process.returncode != 0:
        raise RuntimeError(errors[-2_000:])
    result = json.loads(output.splitlines()[-1])
    return Outcome(
        items=result["done"],
        seconds=result["duration_seconds"],
        peak_mib=_peak(errors),
        longest_transaction=longest.seconds,
        latency=latency,
    )


def _peak(errors: str) -> float:
    """Return the peak memory that the process printed at its end, in MiB."""
    for line in reversed(errors.splitlines()):
        if line.startswith("peak_kib="):
            return int(line.removeprefix("peak_kib=")) / 1024
    return 0.0


class _Longest(threading.Thread):
    """Samples the age of the transactions that do the work."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._end = threading.Event()
        self.seconds = 0.0

    def run(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._end.is_set():
                row = connection.execute(LONGEST).fetchone()
                self.seconds = max(self.seconds, float(row[0]) if row else 0.0)
                time.sleep(SAMPLE_SECONDS)

    def stop(self) -> None:
        self._end.set()
        self.join()
