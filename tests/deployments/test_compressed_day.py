"""A day of schedules in compressed time, while everything crashes at random.

The crashes follow from a seed, which a failure names: CHAOS_SEED repeats them, and another seed
makes another day. CHAOS_SECONDS makes it longer.
"""

import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
from prefect.settings import temporary_settings
from sqlalchemy import URL

from demo.environment import clean_environment
from demo.processes import wait_until
from demo.servers import PrefectServer
from deployments.monitoring.zombie_runs import LIMIT
from deployments.setup.automations.rescue import LOST
from deployments.watch import end_zombies
from maintenance import schema
from maintenance.database import APPLICATION
from maintenance.settings import Settings
from tests.support.chaos import TARGET_SECONDS, Chaos, Crash, Struck, Supervised, plan
from tests.support.chaos_day import EVERY_SECONDS, Contents, Day, fill
from tests.support.chaos_runs import (
    POLL_SECONDS,
    Run,
    histories,
    not_served,
    read_runs,
    wait_for_schedule,
)
from tests.support.chaos_witness import Witness, interleaved, without_guard
from tests.support.odd_engine import odd_engine
from tests.support.prefect_server import ask, automations, deployed_prefect, settings_of
from tests.support.timed_out import manifest_key
from tests.support.validibot import NOW, Validibot

SEED = int(os.environ.get("CHAOS_SEED", "20261122"))
SECONDS = float(os.environ.get("CHAOS_SECONDS", "56"))

BEFORE_SECONDS = 16
"""To fill the application, to schedule the day and to start the worker."""
SILENCE = timedelta(seconds=40)
"""Shorter than as deployed, and still longer than a heartbeat."""
RESCUE = SILENCE + timedelta(seconds=20)
"""Most until a run that was killed has let go of its job, or has been started again."""
LIMIT_FOR_THE_WATCH = timedelta(seconds=75)
"""The same for the watch: two and a half heartbeats."""
SWEEP = timedelta(seconds=5)
"""Between two looks of the watch for dead runs."""
RESCUE_BY_THE_WATCH = LIMIT_FOR_THE_WATCH + SWEEP + timedelta(seconds=20)
LATE = timedelta(seconds=45)
"""Most between the moment at which a job is due and the end of its run, when nothing crashes."""
SETTLE_SECONDS = 2 * RESCUE_BY_THE_WATCH.total_seconds() + LATE.total_seconds()
"""Most until all have ended: one that is killed while it is started again is found once more."""

RUN = "0123456789abcdef" * 2
TOUCH = "UPDATE django_session SET session_data = session_data"
EMPTIED = (
    "django_session",
    "core_idempotencykey",
    "submissions_purgeretry",
    "validations_callbackreceipt",
    "validations_validationfinding",
    "validations_artifact",
)
"""Of these tables, rows are deleted."""


def test_the_evidence_shows_a_runner_without_the_guard_and_two_runners_at_once(
    validibot: Validibot, database_url: URL, tmp_path: Path
) -> None:
    validibot.session(NOW)
    witness = Witness(validibot.engine, tmp_path)

    def connected(process: str, name: str) -> psycopg.Connection:
        return psycopg.connect(
            database_url.render_as_string(hide_password=False),
            autocommit=True,
            application_name=name,
            options=f"-c chaos.process={process}",
        )

    with (
        connected("one", f"job/{RUN}") as guard,
        connected("one", f"{APPLICATION} job") as first,
        connected("two", f"{APPLICATION} job") as second,
    ):
        guard.execute("SELECT pg_advisory_lock(1, 2)")
        assert witness.at_work() == {RUN}
        first.execute(TOUCH)
        assert without_guard(witness.writes()) == []
        second.execute(TOUCH)
        (caught,) = without_guard(witness.writes())
        assert (caught.job, caught.process, caught.holders) == ("job", "two", "one")
        assert interleaved(witness.writes()) == {}
        first.execute(TOUCH)
        assert interleaved(witness.writes()) == {"job": ["one", "two", "one"]}
        guard.close()
        # The server needs a moment to notice.
        wait_until(lambda: witness.at_work() == set(), 10.0, "the end of the guard", [])
        first.execute(TOUCH)
        assert without_guard(witness.writes())[-1].holders is None


@pytest.fixture
def engine_without_containers() -> Iterator[dict[str, str]]:
    """With an engine, all eight jobs take their guards."""
    with odd_engine(GET_json=(200, [])) as host:
        yield {"DEPLOYMENT_TARGET": "self_hosted", "DOCKER_HOST": host}


@pytest.fixture
def prefect() -> Iterator[PrefectServer]:
    settings = {
        "PREFECT_SERVER_SERVICES_SCHEDULER_MAX_RUNS": "1000",
        # The slot of a run that died before it began is free again sooner, too.
        "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "60",
    }
    with deployed_prefect(settings) as running:
        find_silent_runs_sooner(running)
        with temporary_settings(settings_of(running)):
            yield running


def find_silent_runs_sooner(prefect: PrefectServer) -> None:
    (found,) = automations(prefect)[LOST]
    body = {name: found[name] for name in ("name", "description", "enabled", "actions")}
    body["trigger"] = found["trigger"] | {"within": SILENCE.total_seconds()}
    ask(prefect, "PUT", f"/automations/{found['id']}", body)


class Watch:
    """The look of `deployments.watch` for dead runs, in compressed time like all others."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._next = datetime.now(UTC)

    def look(self) -> None:
        now = datetime.now(UTC)
        if now >= self._next:
            self._since = end_zombies(self._since or now, now + (LIMIT - LIMIT_FOR_THE_WATCH))
            self._next = now + SWEEP


def live_through(
    day: Day, chaos: Chaos, worker: Supervised, watch: Watch, draw: random.Random
) -> None:
    """Let the crashes happen, each when its time has come and there is something to crash."""
    to_come = plan(draw, SECONDS)
    while to_come or datetime.now(UTC) < day.end:
        worker.tend()
        chaos.look()
        watch.look()
        passed = (datetime.now(UTC) - day.start).total_seconds()
        if to_come and passed >= to_come[0][0] and chaos.is_quiet:
            at, crash = to_come[0]
            if chaos.strike(crash) or passed > at + TARGET_SECONDS:
                to_come.pop(0)
        time.sleep(0.02)


def settle(prefect: PrefectServer, chaos: Chaos, worker: Supervised, watch: Watch) -> None:
    """Wait until every run has ended, and none will be started again."""
    deadline = time.monotonic() + SETTLE_SECONDS
    left: list[Run] | None = None
    while left != []:
        assert time.monotonic() < deadline, f"not ended: {left}"
        worker.tend()
        chaos.look()
        watch.look()
        with suppress(httpx.HTTPError):
            left = [run for run in read_runs(prefect).values() if run.left]
        time.sleep(POLL_SECONDS)


def rescue(one: Struck, struck: Sequence[Struck]) -> timedelta:
    """Return how long it may take until a job that was hit has a run again.

    The automations do not know of a run any more whose last sign of life was lost with the server.
    """
    forgotten = any(
        other.crash is Crash.SERVER
        and one.began <= other.ended
        and other.began <= one.ended + RESCUE
        for other in struck
    )
    return RESCUE_BY_THE_WATCH if forgotten else RESCUE


def check_contents(validibot: Validibot, contents: Contents) -> None:
    """Everything that was due is gone, and nothing else."""
    after = validibot.snapshot()
    for table, rows in contents.kept.items():
        if table != "files":
            assert {key: after[table].get(key) for key in rows} == rows, table
    for table in EMPTIED:
        assert after[table].keys() == contents.kept[table].keys(), table
    assert validibot.purged() == contents.submissions
    runs = validibot.rows(schema.runs)
    assert {key for key, row in runs.items() if row["output_purged_at"]} == contents.outputs
    assert {key for key, row in runs.items() if row["status"] == "TIMED_OUT"} == contents.hanging
    evidence = {f"private/{manifest_key(validibot, run)}" for run in contents.hanging}
    assert after["files"] == contents.kept["files"] | evidence


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timing
@pytest.mark.timeout(SECONDS + SETTLE_SECONDS + 200)
def test_a_day_of_crashes_serves_every_schedule_and_never_runs_a_job_twice_at_once(
    prefect: PrefectServer,
    environment: Settings,
    engine_without_containers: dict[str, str],
    validibot: Validibot,
    tmp_path: Path,
) -> None:
    draw = random.Random(SEED)
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=BEFORE_SECONDS)
    day = Day(start, SECONDS)
    day.schedule(prefect)
    contents = fill(validibot, day, draw)
    witness = Witness(validibot.engine, tmp_path)
    variables = clean_environment(os.environ, tmp_path) | prefect.client_settings
    variables |= {name: os.environ[name] for name in ("DATABASE_URL", "STORAGE_ROOT")}
    variables |= engine_without_containers
    worker = Supervised(tmp_path, variables | witness.variables)
    chaos = Chaos(draw, prefect, worker, witness.at_work)
    watch = Watch()
    try:
        due = wait_for_schedule(prefect, day)
        live_through(day, chaos, worker, watch, draw)
        settle(prefect, chaos, worker, watch)
        runs = read_runs(prefect)
    finally:
        worker.end()
        print(f"CHAOS_SEED={SEED} CHAOS_SECONDS={SECONDS:.0f}")  # noqa: T201
        print(f"day from {day.start} to {day.end}", *chaos.struck, sep="\n")  # noqa: T201
        with suppress(httpx.HTTPError):
            print(*histories(prefect), sep="\n")  # noqa: T201
    assert {Crash.SERVER, Crash.WORKER, Crash.WORKER_AND_RUNS} <= {
        one.crash for one in chaos.struck
    }
    writes = witness.writes()
    assert {one.job for one in writes} == EVERY_SECONDS.keys() - {"cleanup-orphaned-containers"}
    assert without_guard(writes) == []
    assert interleaved(writes) == {}
    assert not_served(runs, due, chaos.struck, LATE, rescue) == []
    check_contents(validibot, contents)
