"""The other client: point reads and updates during the work, as the application does them."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from statistics import median

import psycopg

PAUSE_SECONDS = 0.002


@dataclass
class Latency:
    """The latencies that the other client observed, in milliseconds."""

    samples: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    """When each request was answered, in seconds of wall-clock time."""

    def between(self, first: float, last: float) -> "Latency":
        """Return the latencies observed between two times."""
        chosen = [
            (sample, end)
            for sample, end in zip(self.samples, self.ended, strict=True)
            if first <= end <= last
        ]
        return Latency([sample for sample, _ in chosen], [end for _, end in chosen])

    def percentile(self, share: float) -> float:
        """Return the latency quantile at `share`."""
        ordered = sorted(self.samples)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def __str__(self) -> str:
        """Return p50, p99 and the maximum."""
        if not self.samples:
            return "-"
        return (
            f"p50 {median(self.samples):.1f}, p99 {self.percentile(0.99):.1f},"
            f" max {max(self.samples):.1f} ms"
        )


Request = Callable[[], None]
"""One request of the client, like a request of the application."""


def submissions_and_users(connection: psycopg.Connection, rng: random.Random) -> Request:
    """Read a submission, and update the last login of a user."""
    ids = [row[0] for row in connection.execute("SELECT id FROM submissions_submission")]
    users = [row[0] for row in connection.execute("SELECT id FROM users_user")]

    def request() -> None:
        connection.execute(
            "SELECT * FROM submissions_submission WHERE id = %s", (rng.choice(ids),)
        ).fetchone()
        connection.execute(
            "UPDATE users_user SET last_login = now() WHERE id = %s", (rng.choice(users),)
        )

    return request


def live_sessions(connection: psycopg.Connection, rng: random.Random) -> Request:
    """Save a session that is still valid, in the table that is being cleared."""
    keys = [
        row[0]
        for row in connection.execute(
            "SELECT session_key FROM django_session ORDER BY expire_date DESC LIMIT 10000"
        )
    ]

    def request() -> None:
        connection.execute(
            "UPDATE django_session SET session_data = reverse(session_data) WHERE session_key = %s",
            (rng.choice(keys),),
        )

    return request


Prepare = Callable[[psycopg.Connection, random.Random], Request]


@contextmanager
def other_client(url: str, prepare: Prepare = submissions_and_users) -> Iterator[Latency]:
    """Run the other client in a process of its own for as long as the block lasts."""
    latency = Latency()
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_work, args=(url, theirs, prepare), daemon=True)
    process.start()
    ours.recv()
    try:
        yield latency
    finally:
        ours.send("stop")
        latency.samples, latency.ended = ours.recv()
        process.join(10)


def _work(url: str, pipe: Pipe, prepare: Prepare) -> None:
    """Send requests again and again, with a pause between two."""
    samples: list[float] = []
    ended: list[float] = []
    with psycopg.connect(url, autocommit=True, application_name="other client") as connection:
        request = prepare(connection, random.Random(1))  # noqa: S311 - not for secrets
        pipe.send("ready")
        while not pipe.poll(PAUSE_SECONDS):
            started = time.perf_counter()
            request()
            samples.append((time.perf_counter() - started) * 1000)
            ended.append(time.time())
    pipe.send((samples, ended))
