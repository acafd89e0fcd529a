"""The other client: point reads and updates beside the work, as the application does them."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from statistics import median

import psycopg

PAUSE_SECONDS = 0.002


@dataclass
class Latency:
    """What the other client met, in milliseconds."""

    samples: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Return the latency that `share` of the requests stayed under."""
        ordered = sorted(self.samples)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def __str__(self) -> str:
        """Return p50, p99 and the longest."""
        if not self.samples:
            return "-"
        return (
            f"p50 {median(self.samples):.1f}, p99 {self.percentile(0.99):.1f},"
            f" max {max(self.samples):.1f} ms"
        )


@contextmanager
def other_client(url: str) -> Iterator[Latency]:
    """Run the other client in a process of its own for as long as the block lasts."""
    latency = Latency()
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_work, args=(url, theirs), daemon=True)
    process.start()
    ours.recv()
    try:
        yield latency
    finally:
        ours.send("stop")
        latency.samples = ours.recv()
        process.join(10)


def _work(url: str, pipe: Pipe) -> None:
    """Read a submission, and update the description of a run, again and again."""
    rng = random.Random(1)  # noqa: S311 - not for secrets
    samples: list[float] = []
    with psycopg.connect(url, autocommit=True, application_name="other client") as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM submissions_submission")]
        users = [row[0] for row in connection.execute("SELECT id FROM users_user")]
        pipe.send("ready")
        while not pipe.poll(PAUSE_SECONDS):
            started = time.perf_counter()
            connection.execute(
                "SELECT * FROM submissions_submission WHERE id = %s", (rng.choice(ids),)
            ).fetchone()
            connection.execute(
                "UPDATE users_user SET last_login = now() WHERE id = %s", (rng.choice(users),)
            )
            samples.append((time.perf_counter() - started) * 1000)
    pipe.send(samples)
