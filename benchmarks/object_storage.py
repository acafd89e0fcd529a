"""How fast a purge is on an object storage that takes 20 ms for each request.

Run it with `python -m benchmarks.object_storage [--items 2500] [--delay-ms 20] [--seconds 60]`.
The same purge of submissions works with one request at a time and with more of them in flight, each
time on a copy of the same database and the same objects, which `benchmarks.s3_stand_in` serves. The
way with one request at a time ends after `--seconds`: its rate does not depend on the backlog.
"""

import argparse
import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.stage import DUE, Stage, machine, stage
from benchmarks.ways import Outcome, run_way
from maintenance.storage.service import REQUESTS

JOB = "purge-expired-submissions"
BUCKET = "validibot"
ADOPT = ("-m", "maintenance", "storage", "adopt")
WAYS = (1, 8, REQUESTS)


@dataclass(frozen=True)
class Measured:
    """One way: what the purge did, and what the storage was asked."""

    outcome: Outcome
    requests: Counter[str]
    most_in_flight: int

    @property
    def objects(self) -> int:
        """Objects deleted."""
        return self.requests["objects deleted"]

    @property
    def asked(self) -> int:
        """Requests of all kinds."""
        return self.requests.total() - self.objects


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=2_500, help="submissions (default 2,500)")
    parser.add_argument("--delay-ms", type=float, default=20, help="of each request (default 20)")
    parser.add_argument("--seconds", type=float, default=60, help="of one request at a time")
    parser.add_argument("--requests", type=int, nargs="+", default=WAYS, help="in flight at most")
    options = parser.parse_args()
    with stage(replace(DUE, submissions=options.items)) as prepared:
        ways = {
            requests: _measure(
                prepared, requests, options.delay_ms, options.seconds if requests == 1 else 3_600
            )
            for requests in options.requests
        }
    one = next(iter(ways.values()))
    print(f"{machine()}\n{JOB}, {options.items:,} submissions, {options.delay_ms:g} ms a request\n")
    print(
        "| in flight at most (seen) | submissions | objects | requests | submissions/s | objects/s"
        " | of one at a time | peak MiB | longest transaction |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for requests, way in ways.items():
        outcome = way.outcome
        print(
            f"| {requests} ({way.most_in_flight}) | {outcome.items:,} | {way.objects:,}"
            f" | {way.asked:,} | {outcome.rate:,.1f} | {way.objects / outcome.seconds:,.0f}"
            f" | {outcome.rate / one.outcome.rate:.1f} | {outcome.peak_mib:,.0f}"
            f" | {outcome.longest_transaction:.2f} s |"
        )
    ours = list(ways.values())[-1]
    print("\nRequests for each submission, by kind:")
    for kind, number in ours.requests.most_common():
        print(f"* {kind}: {number / ours.outcome.items:.2f}")


def _measure(prepared: Stage, requests: int, delay_ms: float, seconds: float) -> Measured:
    with prepared.copy() as copy, _storage(copy.root, delay_ms) as address:
        variables = {
            "DATA_STORAGE_BACKEND": "s3",
            "STORAGE_BUCKET": BUCKET,
            "AWS_S3_ENDPOINT_URL": address,
            "AWS_S3_REGION_NAME": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "stand-in",
            "AWS_SECRET_ACCESS_KEY": "stand-in",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        environment = {**os.environ, **copy.environment, **variables}
        subprocess.run([sys.executable, *ADOPT], env=environment, check=True, capture_output=True)
        before, _ = _seen(address)
        budget = ("--time-budget", str(seconds))
        command = ["-m", "benchmarks.measured", JOB, "--json", *budget]
        way = {**variables, "MAINTENANCE_STORAGE_REQUESTS": str(requests)}
        outcome = run_way(copy, command, way)
        after, most = _seen(address)
    return Measured(outcome, after - before, most)


def _seen(address: str) -> tuple[Counter[str], int]:
    """Return the requests by kind, and how many were in flight at the same time at most."""
    with urllib.request.urlopen(address) as answer:  # noqa: S310 - our own stand-in
        seen = json.load(answer)
    return Counter(seen["requests"]), seen["most"]


@contextmanager
def _storage(directory: Path, delay_ms: float) -> Iterator[str]:
    """Serve a directory's files as objects, in a process of its own; yield the address."""
    command = [sys.executable, "-m", "benchmarks.s3_stand_in", str(directory)]
    with subprocess.Popen(
        [*command, "--delay-ms", str(delay_ms)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError(command)
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


if __name__ == "__main__":
    main()
