"""A day in compressed time: when each job is due, and what falls due for it meanwhile."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from demo.servers import PrefectServer
from maintenance import schema
from tests.support.prefect_server import ask, deployments, edit_schedule
from tests.support.stuck import Hanging
from tests.support.validibot import DAY, Validibot

EVERY_SECONDS = {
    "process-purge-retries": 12,
    "cleanup-stuck-runs": 16,
    "cleanup-orphaned-containers": 16,
    "purge-expired-submissions": 24,
    "purge-expired-outputs": 24,
    "clear-sessions": 32,
    "cleanup-idempotency-keys": 32,
    "cleanup-callback-receipts": 36,
}
"""In the order of the real intervals; all are due together at times, as at three in the morning."""

ITEMS = 10
"""So many fall due for each job; the last of them before its last but one run."""
WEEK = 7 * DAY
TOMORROW = 30 * DAY
"""Far enough that nothing of it may be touched."""


@dataclass(frozen=True)
class Day:
    """A day that begins at a moment: so many seconds with crashes, then quiet ones.

    In the quiet ones each job is due once at least.
    """

    start: datetime
    seconds: float

    def windows(self, job: str) -> list[datetime]:
        """The moments at which a job is due."""
        every = EVERY_SECONDS[job]
        last = (self.seconds + max(EVERY_SECONDS.values())) // every
        return [self.start + timedelta(seconds=every * number) for number in range(int(last) + 1)]

    @property
    def end(self) -> datetime:
        """When the last job is due."""
        return max(self.windows(job)[-1] for job in EVERY_SECONDS)

    def schedule(self, server: PrefectServer) -> None:
        """Edit the schedules of all jobs, as an operator may, and let runs go in small batches."""
        found = deployments(server)
        for job, seconds in EVERY_SECONDS.items():
            rule = (
                f"DTSTART:{self.start:%Y%m%dT%H%M%S}\n"
                f"RRULE:FREQ=SECONDLY;INTERVAL={seconds};COUNT={len(self.windows(job))}"
            )
            edit_schedule(server, job, {"schedule": {"rrule": rule, "timezone": "UTC"}})
            # The scheduler looks at once at deployments that have changed themselves.
            path = f"/deployments/{found[job]['id']}"
            ask(server, "PATCH", path, {"parameters": {"batch_size": 2}})


@dataclass
class Contents:
    """What is in the application at the start of a day, and what has to become of it."""

    kept: dict[str, Any]
    """Everything that is not due on that day, with its files."""
    submissions: set[UUID] = field(default_factory=set)
    outputs: set[UUID] = field(default_factory=set)
    hanging: set[UUID] = field(default_factory=set)


def fill(validibot: Validibot, day: Day, draw: random.Random) -> Contents:
    """Fill an application with what falls due on a day, and with as much that does not."""
    _add(validibot, dict.fromkeys(EVERY_SECONDS, [day.end + TOMORROW] * ITEMS))
    # What never falls due, and what an active run protects.
    validibot.submission(retention_policy="STORE_PERMANENTLY", expires_at=None)
    busy = validibot.submission(created=day.start - 2 * WEEK, expires_at=day.start - WEEK)
    validibot.run(busy, status="PENDING", ended_at=None)
    kept = validibot.snapshot()
    due = {}
    for job in EVERY_SECONDS:
        latest = (day.windows(job)[-2] - day.start).total_seconds()
        due[job] = [
            day.start + timedelta(seconds=draw.uniform(-latest, latest)) for _ in range(ITEMS)
        ]
    contents = _add(validibot, due)
    contents.kept = kept
    return contents


def _add(validibot: Validibot, due: dict[str, list[datetime]]) -> Contents:
    added = Contents({})
    hanging = Hanging(validibot)
    lasting = validibot.run(None)
    for at in due["purge-expired-submissions"]:
        added.submissions.add(_submission(validibot, at, expires_at=at))
    for at in due["process-purge-retries"]:
        queued = _submission(validibot, at, expires_at=None, retention_policy="DO_NOT_STORE")
        validibot.queued(queued, next_retry_at=at)
        added.submissions.add(queued)
    for at in due["purge-expired-outputs"]:
        added.outputs.add(_outputs(validibot, at))
    for at in due["cleanup-stuck-runs"]:
        run = hanging.run(started_at=datetime.now(UTC))
        hanging.tried(run, timeout_at=at)
        added.hanging.add(run)
    for at in due["clear-sessions"]:
        validibot.session(at)
    for at in due["cleanup-idempotency-keys"]:
        validibot.idempotency_key(at)
    for at in due["cleanup-callback-receipts"]:
        validibot.receipt(at - 30 * DAY, lasting)
    return added


def _submission(validibot: Validibot, due: datetime, **values: Any) -> UUID:
    key = f"submissions/{due.timestamp()}-{values['expires_at']}.json"
    validibot.file(key)
    made = validibot.submission(created=due - WEEK, input_file=key, **values)
    run = validibot.run(made, created=due - WEEK, ended_at=due - WEEK)
    validibot.step_run(run)
    validibot.file(f"runs/{validibot.org_id}/{run}/input.json")
    return made


def _outputs(validibot: Validibot, due: datetime) -> UUID:
    run = validibot.run(
        None,
        created=due - WEEK,
        ended_at=due - WEEK,
        output_retention_policy="STORE_7_DAYS",
        output_expires_at=due,
    )
    step = validibot.step_run(run)
    validibot.insert(schema.findings, validation_run_id=run, validation_step_run_id=step)
    key = f"artifacts/{run}/a.csv"
    validibot.file(key)
    validibot.insert(schema.artifacts, validation_run_id=run, org_id=validibot.org_id, file=key)
    validibot.file(f"runs/{validibot.org_id}/{run}/output.json")
    return run
