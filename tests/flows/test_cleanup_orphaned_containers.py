"""cleanup-orphaned-containers on a real engine (SPEC 7)."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import Engine, text

from flows.cleanup_orphaned_containers import GRACE_SECONDS, cleanup_orphaned_containers
from maintenance import schema
from maintenance import settings as settings_module
from maintenance.budget import SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import dispose_engines
from maintenance.grants import grants
from maintenance.guard import guard
from maintenance.report import Report
from maintenance.settings import Settings
from tasks.orphaned_containers import (
    PARALLEL_REMOVALS,
    OrphanOptions,
    OrphanWork,
    find_orphans,
    remove_orphans,
)
from tests.support.docker_engine import Containers
from tests.support.runs import run
from tests.support.validibot import Validibot

pytestmark = pytest.mark.docker

JOB = cleanup_orphaned_containers.name
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)
GRACE = timedelta(seconds=GRACE_SECONDS)
STATES = ("running", "created", "paused", "exited", "restarting")


@pytest.fixture(autouse=True)
def _engine_in_the_environment(
    environment: Settings, containers: Containers, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("DEPLOYMENT_TARGET", "self_hosted")
    settings_module.settings.cache_clear()
    yield
    settings_module.settings.cache_clear()


def clean_up(**parameters: Any) -> Report:
    return run(cleanup_orphaned_containers, **parameters)


def ago(age: timedelta) -> datetime:
    return datetime.now(UTC) - age


def ended(validibot: Validibot, age: timedelta, status: str = "SUCCEEDED") -> UUID:
    return validibot.run(None, status=status, ended_at=ago(age))


def running(validibot: Validibot) -> UUID:
    return validibot.run(None, status="RUNNING", ended_at=None)


def test_7_orphans_go_by_their_age_or_by_their_runs_end_and_all_others_stay(
    containers: Containers, validibot: Validibot
) -> None:
    as_of = ago(HOUR)
    limit = as_of - GRACE - 60 * SECOND
    overdue = validibot.run(None, status="TIMED_OUT", ended_at=as_of - GRACE - TICK)
    in_grace = validibot.run(None, status="FAILED", ended_at=as_of - GRACE)
    for started, timeout, run_id in (
        (limit - TICK, 60, None),
        (limit - TICK, 60, running(validibot)),
        (as_of, 60, overdue),
        ("2020-01-01T00:00:00Z", None, uuid4()),
        ("2020-01-01T00:00:00Z", "an hour", "no run"),
    ):
        containers.make(started=started, timeout=timeout, run_id=run_id)
    kept = {
        containers.make(started=started, timeout=timeout, run_id=run_id, managed=managed)
        for started, timeout, run_id, managed in (
            (limit, 60, None, "true"),
            (as_of, 60, in_grace, "true"),
            (as_of, None, running(validibot), "true"),
            (as_of + 30 * 60 * SECOND, 60, None, "true"),
            # Just created; with an unreadable label the time of creation counts.
            (None, 60, None, "true"),
            ("2020-01-01T00:00:00", 60, None, "true"),
            ("2099-01-01T00:00:00Z", 60, None, "true"),
            ("2020-01-01T00:00:00Z", 60, overdue, None),
            ("2020-01-01T00:00:00Z", 60, overdue, "false"),
        )
    }
    before = validibot.snapshot()
    report = clean_up(as_of=as_of)
    assert containers.ids() == kept
    assert (report.selected, report.done, report.failed) == (5, 5, 0)
    assert {one.partition("org.")[2] for one in report.warnings} == {
        "validibot.timeout_seconds is not a number of seconds",
        "validibot.started_at is missing",
        "validibot.started_at has no zone",
        "validibot.started_at lies in the future",
    }
    assert report.overdue is not None
    assert report.overdue.rows == 0
    assert validibot.snapshot() == before


@pytest.mark.parametrize("state", STATES)
def test_7_an_orphan_is_removed_with_its_volumes_whatever_its_state(
    containers: Containers, state: str
) -> None:
    containers.make(state, started=ago(2 * HOUR), timeout=60)
    kept = containers.make(state, started=ago(SECOND), timeout=60)
    volumes = containers.volumes()
    assert clean_up().done == 1
    assert containers.ids() == {kept}
    left = {one["Name"] for one in containers.client.volumes()["Volumes"] or []}
    assert volumes & left == containers.volumes()


def test_7_the_grace_period_is_a_parameter(containers: Containers, validibot: Validibot) -> None:
    old = containers.make(started=ago(90 * SECOND), timeout=60)
    outlived = containers.make(run_id=ended(validibot, 30 * SECOND), started=ago(SECOND))
    assert clean_up(grace_period_seconds=60).selected == 0
    assert containers.ids() == {old, outlived}
    assert clean_up(grace_period_seconds=0).done == 2
    assert containers.ids() == set()


def test_7_remove_all_spares_running_runs_and_what_is_not_managed_unless_forced(
    containers: Containers, validibot: Validibot
) -> None:
    now = ago(SECOND)
    for run_id in (None, "no run", uuid4(), ended(validibot, SECOND), ended(validibot, HOUR)):
        containers.make(started=now, run_id=run_id)
    busy = containers.make("running", started=now, run_id=running(validibot))
    overdue = containers.make(started=ago(9 * HOUR), timeout=60, run_id=running(validibot))
    foreign = containers.make("running", managed=None, started=ago(9 * HOUR))
    forecast = clean_up(remove_all=True, dry_run=True)
    report = clean_up(remove_all=True)
    assert (forecast.selected, report.done) == (5, 5)
    assert forecast.fingerprint == report.fingerprint
    assert containers.ids() == {busy, overdue, foreign}
    assert clean_up().done == 1
    assert clean_up(remove_all=True, force=True).done == 1
    assert containers.ids() == {foreign}
    assert containers.state(foreign) == "running"


def test_7_a_run_that_begins_after_the_choice_keeps_its_container(
    containers: Containers, validibot: Validibot
) -> None:
    begins = validibot.run(None, status="PENDING", ended_at=None)
    kept = containers.make(run_id=begins)
    containers.make()
    cutoff = Cutoff(datetime.now(UTC), datetime.now(UTC))
    options = OrphanOptions(JOB, GRACE, remove_all=True)
    chosen = find_orphans.fn(cutoff, options).orphans
    assert len(chosen) == 2
    with validibot.engine.begin() as connection:
        connection.execute(schema.runs.update().values(status="RUNNING"))
    done = remove_orphans.fn(cutoff, None, SliceBudget(10), OrphanWork(options, chosen))
    assert (done.result.done, done.result.skipped) == (1, 1)
    assert containers.ids() == {kept}


def test_7_a_container_that_vanishes_between_the_list_and_its_removal_is_done(
    containers: Containers,
) -> None:
    for _ in range(3):
        containers.make("running", started=ago(9 * HOUR), timeout=60)
    cutoff = Cutoff(datetime.now(UTC), datetime.now(UTC))
    options = OrphanOptions(JOB, GRACE)
    chosen = find_orphans.fn(cutoff, options).orphans
    containers.client.remove_container(chosen[1].id, force=True)
    done = remove_orphans.fn(cutoff, None, SliceBudget(10), OrphanWork(options, chosen))
    assert (done.result.done, done.result.failed, done.exhausted) == (3, 0, True)
    assert containers.ids() == set()


def test_7_two_hundred_containers_go_in_one_run(containers: Containers) -> None:
    for _ in range(200):
        containers.make(started=ago(9 * HOUR), timeout=60)
    kept = {containers.make(started=ago(SECOND))}
    forecast = clean_up(dry_run=True)
    assert len(containers.ids()) == 201
    report = clean_up()
    assert containers.ids() == kept
    assert (forecast.selected, report.selected, report.done) == (200, 200, 200)
    assert forecast.fingerprint == report.fingerprint
    assert report.stopped_because == "drained"


def test_2_2_a_dry_run_changes_nothing_and_needs_neither_the_guard_nor_rights_to_write(
    containers: Containers, validibot: Validibot, environment: Settings, database: Engine
) -> None:
    made = {containers.make("running", started=ago(9 * HOUR), timeout=60)}
    with database.begin() as connection:
        name = connection.engine.url.database
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    with guard(environment, JOB, uuid4()):
        forecast = clean_up(dry_run=True)
    assert (forecast.selected, forecast.done) == (1, 0)
    assert {(one, containers.state(one)) for one in containers.ids()} == {
        (one, "running") for one in made
    }


def test_2_1_a_forecast_reports_what_will_be_an_orphan(containers: Containers) -> None:
    due = ago(timedelta(0)) + GRACE
    for late in (SECOND, -SECOND):
        containers.make(started=due - GRACE - 60 * SECOND - late, timeout=60)
    assert clean_up(dry_run=True, as_of=due).selected == 1
    assert len(containers.ids()) == 2


def test_2_3_a_run_stops_after_max_batches_and_reports_what_is_left(containers: Containers) -> None:
    for _ in range(5):
        containers.make(started=ago(9 * HOUR), timeout=60)
    report = clean_up(batch_size=1, max_batches=2)
    assert (report.done, report.batches, report.stopped_because) == (2, 2, "max_batches")
    assert len(containers.ids()) == 3
    assert report.overdue is not None
    assert report.overdue.rows == 3
    assert report.overdue.oldest_age_seconds is not None
    assert clean_up(batch_size=2).done == 3


def test_2_5_a_second_run_at_once_does_nothing(containers: Containers) -> None:
    containers.make(started=ago(9 * HOUR), timeout=60)
    assert clean_up().done == 1
    assert clean_up().selected == 0


def test_2_5_a_run_that_is_killed_is_completed_by_the_next_one(containers: Containers) -> None:
    for _ in range(60):
        containers.make(started=ago(9 * HOUR), timeout=60)
    kept = containers.make(started=ago(SECOND))
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", JOB],
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len(containers.ids()) == 61:
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    left = len(containers.ids())
    assert 1 < left < 61
    wait_for_the_guard(deadline)
    # The container engine completes the requests under way, four removals at most.
    assert left - 1 - PARALLEL_REMOVALS <= clean_up().done <= left - 1
    assert containers.ids() == {kept}


def wait_for_the_guard(deadline: float) -> None:
    """Wait until the database has noticed that a killed run is gone."""
    while True:
        with guard(settings_module.settings(), JOB, None) as held:
            if held.acquired:
                return
        assert time.monotonic() < deadline


def test_2_8_a_second_run_ends_as_skipped_and_removes_nothing(
    containers: Containers, environment: Settings
) -> None:
    made = {containers.make(started=ago(9 * HOUR), timeout=60)}
    holder = uuid4()
    with guard(environment, JOB, holder):
        report = clean_up()
    assert report.stopped_because == "skipped"
    assert str(holder) in report.summary()
    assert containers.ids() == made


def test_the_job_runs_with_the_rights_that_are_granted_for_it(
    containers: Containers, validibot: Validibot, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = validibot.engine.url.set(drivername="postgresql")
    containers.make(started=ago(SECOND), run_id=ended(validibot, HOUR))
    with psycopg.connect(address.render_as_string(hide_password=False), autocommit=True) as admin:
        admin.execute("CREATE ROLE limited LOGIN")
        admin.execute(grants("limited", [JOB]).encode())
    limited = address.set(username="limited").render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", limited)
    settings_module.settings.cache_clear()
    try:
        report = clean_up()
    finally:
        dispose_engines()
        with validibot.engine.begin() as connection:
            connection.execute(text("DROP OWNED BY limited"))
            connection.execute(text("DROP ROLE limited"))
    assert (report.done, report.warnings) == (1, [])
    assert containers.ids() == set()
