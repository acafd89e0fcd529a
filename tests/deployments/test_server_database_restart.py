"""The Prefect server's own database goes away while runs are at work, and comes back.

No manual step is needed: runs go on, those that end or begin meanwhile are recorded later, and
afterwards schedules, requests and the rescue of crashed runs work as before.
"""

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Table, text

from demo.api import FINAL_STATES
from demo.environment import clean_environment
from demo.processes import Child, wait_until
from demo.servers import PrefectServer, start_worker
from deployments.names import DEPLOYMENT
from deployments.setup.automations.rescue import NO_SIGN_OF_LIFE
from flows.jobs import JOBS
from maintenance import schema
from maintenance.settings import Settings
from tests.support.chaos_witness import Witness, Write, without_guard
from tests.support.jobs_on_server import make_run
from tests.support.prefect_database import PrefectDatabase, prefect_database
from tests.support.prefect_server import ask, deployed_prefect, deployments, edit_schedule
from tests.support.validibot import DAY, NOW, Validibot

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.timing,
]

CLEAR = "clear-sessions"
RECEIPTS = "cleanup-callback-receipts"
KEYS = "cleanup-idempotency-keys"
OUTPUTS = "purge-expired-outputs"
SESSION_ROWS, RECEIPT_ROWS = schema.sessions, schema.callback_receipts
ROWS = 600
"""So many that a run that deletes them one by one lasts as long as the test leaves them to it."""
PAUSE_SECONDS = 0.2
SOME = 5
AWAY_SECONDS = 12.0
EVERY_SECONDS = 5
WAIT_SECONDS = 90.0
STOP_SECONDS = 10.0


@pytest.fixture
def server_database() -> Iterator[PrefectDatabase]:
    with prefect_database() as running:
        yield running


@pytest.fixture
def prefect(server_database: PrefectDatabase) -> Iterator[PrefectServer]:
    with deployed_prefect(server_database.server_settings) as running:
        yield running


class Story:
    """The server, the worker and the application of one test."""

    def __init__(self, prefect: PrefectServer, validibot: Validibot, logs: Path) -> None:
        self.prefect = prefect
        self.validibot = validibot
        self.witness = Witness(validibot.engine, logs)
        variables = clean_environment(os.environ, logs) | prefect.client_settings
        variables |= {name: os.environ[name] for name in ("DATABASE_URL", "STORAGE_ROOT")}
        variables |= {"MAINTENANCE_DELETE_PAUSE_SECONDS": str(PAUSE_SECONDS)}
        self.worker: Child = start_worker(logs, variables | self.witness.variables)

    def start(self, job: str, **parameters: Any) -> str:
        return self.prefect.api.start_run(f"{job}/{DEPLOYMENT}", parameters)

    def run(self, identifier: str) -> dict[str, Any]:
        found: dict[str, Any] = ask(self.prefect, "GET", f"/flow_runs/{identifier}")
        return found

    def end(self, identifier: str) -> tuple[str, str, int]:
        """Wait for a run's end; return its state, with the message, and how often it began."""
        self.wait(lambda: self.run(identifier)["state_type"] in FINAL_STATES, "the end of a run")
        found = self.run(identifier)
        return found["state_name"], found["state"]["message"], found["run_count"]

    def wait(self, ready: Callable[[], bool], what: str) -> None:
        wait_until(ready, WAIT_SECONDS, what, [self.worker])

    def left(self, table: Table) -> int:
        return len(self.validibot.rows(table))

    def wait_for_work(self, table: Table) -> None:
        before = self.left(table)
        self.wait(lambda: self.left(table) <= before - SOME, "some work")
        assert self.left(table) > SOME

    def leave_nothing_to_do(self, table: Table) -> None:
        with self.validibot.engine.begin() as connection:
            # Unseen by the witness, which makes each write slow.
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(table.delete())

    def writes(self, *jobs: str) -> list[Write]:
        return [one for one in self.witness.writes() if one.job in jobs]

    def live_through(self, database: PrefectDatabase) -> None:
        """Kill the database and start it again; meanwhile a run comes to the end of its work."""
        database.kill()
        back = time.monotonic() + AWAY_SECONDS
        with pytest.raises(httpx.HTTPStatusError):
            self.under_way()
        self.wait_for_work(RECEIPT_ROWS)
        self.leave_nothing_to_do(RECEIPT_ROWS)
        self.wait(lambda: time.monotonic() > back, "an outage")
        database.start()

    def under_way(self) -> int:
        """Return how many runs have begun and have not ended."""
        begun = {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}
        found: int = ask(self.prefect, "POST", "/flow_runs/count", {"flow_runs": {"state": begun}})
        return found

    def completed(self, job: str) -> list[dict[str, Any]]:
        """Return the runs of a job that are completed."""
        query = {
            "flows": {"name": {"any_": [job]}},
            "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
        }
        found: list[dict[str, Any]] = ask(self.prefect, "POST", "/flow_runs/filter", query)
        return found

    def has_kept_schedule(self, job: str, since: datetime) -> bool:
        return any(
            one["auto_scheduled"] and datetime.fromisoformat(one["expected_start_time"]) >= since
            for one in self.completed(job)
        )

    def has_rescued(self, job: str) -> bool:
        return any(one["run_count"] == 2 for one in self.completed(job))

    def schedule(self, job: str) -> datetime:
        """Edit a job's schedule, so that it is due every few seconds; return from when on."""
        now = datetime.now(UTC).replace(microsecond=0)
        rule = f"DTSTART:{now:%Y%m%dT%H%M%S}\nRRULE:FREQ=SECONDLY;INTERVAL={EVERY_SECONDS};COUNT=9"
        edit_schedule(self.prefect, job, {"schedule": {"rrule": rule, "timezone": "UTC"}})
        # The scheduler looks at once at deployments that have changed themselves.
        path = f"/deployments/{deployments(self.prefect)[job]['id']}"
        ask(self.prefect, "PATCH", path, {"parameters": {"batch_size": 2}})
        return now


def test_runs_and_schedules_outlive_an_outage_of_the_servers_database(
    server_database: PrefectDatabase,
    prefect: PrefectServer,
    environment: Settings,
    validibot: Validibot,
    tmp_path: Path,
) -> None:
    live = validibot.run(None)
    for _ in range(ROWS):
        validibot.session(NOW - DAY)
        validibot.receipt(NOW - 400 * DAY, live)
    story = Story(prefect, validibot, tmp_path)
    try:
        # One run that will be at work all the time, one that will end meanwhile, one that begins.
        clearing = story.start(CLEAR, batch_size=1)
        story.wait_for_work(SESSION_ROWS)
        ending = story.start(RECEIPTS, batch_size=1)
        story.wait_for_work(RECEIPT_ROWS)
        beginning = story.start(KEYS)
        story.wait(lambda: story.run(beginning)["state_type"] == "PENDING", "a run being started")
        before = story.left(SESSION_ROWS)
        story.live_through(server_database)
        assert story.left(SESSION_ROWS) < before - SOME

        # It is back. What was asked for now, and what is due now, is done.
        since = story.schedule(OUTPUTS)
        asked = story.start("purge-expired-submissions")
        assert story.end(asked) == ("Completed", "Nothing to do", 1)
        story.wait(lambda: story.has_kept_schedule(OUTPUTS, since), "a scheduled run")

        # None was lost, none was taken for dead, and each can tell what it has done.
        story.wait_for_work(SESSION_ROWS)
        story.leave_nothing_to_do(SESSION_ROWS)
        for run, job in ((ending, RECEIPTS), (clearing, CLEAR)):
            state, message, begun = story.end(run)
            deleted = len(story.writes(job))
            assert (state, message, begun) == ("Completed", f"{deleted} of {deleted} done", 1)
        assert story.end(beginning) == ("Completed", "Nothing to do", 1)

        # What has crashed is still started again.
        make_run(prefect, RECEIPTS, "CRASHED", message=f"{NO_SIGN_OF_LIFE} for 65 s")
        story.wait(lambda: story.has_rescued(RECEIPTS), "the rescue")
        story.wait(lambda: story.under_way() == 0, "the end of all runs")
    finally:
        story.worker.stop(STOP_SECONDS)
    writes = story.writes(*JOBS)
    assert without_guard(writes) == []
    assert {job: len({one.process for one in story.writes(job)}) for job in JOBS} == {
        job: 1 if job in (CLEAR, RECEIPTS) else 0 for job in JOBS
    }
