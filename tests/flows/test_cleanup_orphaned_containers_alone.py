"""cleanup-orphaned-containers without an engine, with a broken one, and without the database."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.exceptions import ParameterTypeError

from flows import cleanup_orphaned_containers as module
from flows.cleanup_orphaned_containers import cleanup_orphaned_containers
from flows.run.offline import without_server
from maintenance import settings as settings_module
from maintenance.containers.labels import RUN_ID, STARTED_AT, TIMEOUT_SECONDS
from maintenance.database import dispose_engines
from maintenance.errors import EngineUnavailable, ParameterError
from maintenance.guard import guard
from maintenance.report import Report
from maintenance.settings import Settings
from tasks.orphaned_containers import (
    OrphanOptions,
    choose_cutoff_or_own_clock,
    count_orphans,
    find_orphans,
    remove_orphans,
)
from tasks.retrying import BACKOFF, no_time_out, only_transient
from tests.support.docker_engine import Containers
from tests.support.odd_engine import (
    HANG,
    ID,
    INSPECTED,
    LABELS,
    LISTED,
    closed_port,
    odd_engine,
    silent,
)
from tests.support.runs import attempts_of, run
from tests.support.validibot import Validibot

JOB = cleanup_orphaned_containers.name
HOUR = timedelta(hours=1)
NOWHERE = "postgresql://nobody:top-secret@127.0.0.1:1/none"
TASKS = (find_orphans, remove_orphans, count_orphans)


@pytest.fixture(autouse=True)
def _environment(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test here has its own database, and does not wait between attempts."""
    for task in TASKS:
        name = str(task.fn.__name__)
        monkeypatch.setattr(module, name, task.with_options(retry_delay_seconds=0))
    yield
    dispose_engines()


@contextmanager
def using(**variables: str) -> Iterator[None]:
    """Let the settings be read from these variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        settings_module.settings.cache_clear()
        yield
    settings_module.settings.cache_clear()


def clean_up(**parameters: Any) -> Report:
    return run(cleanup_orphaned_containers, **parameters)


def clean_up_on(host: str, **parameters: Any) -> Report:
    with using(
        DEPLOYMENT_TARGET="self_hosted", DOCKER_HOST=host, MAINTENANCE_DOCKER_TIMEOUT_SECONDS="0.5"
    ):
        return clean_up(**parameters)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("target", ["", "gcp", "aws"])
def test_7_without_an_engine_the_run_ends_as_skipped_with_the_reason(
    target: str, dry_run: bool
) -> None:
    bucket = {"STORAGE_BUCKET": "files"} if target else {}
    with using(DEPLOYMENT_TARGET=target, DOCKER_HOST=closed_port(), **bucket), without_server():
        state: Any = cleanup_orphaned_containers.fn(dry_run=dry_run)
    assert (state.type, state.name) == ("COMPLETED", "Skipped")
    assert state.message == (
        "Skipped: this deployment has no container engine: DEPLOYMENT_TARGET is"
        f" {target or 'not set'}, neither self_hosted nor local_docker_compose"
    )
    assert state.data.selected == 0


@pytest.mark.parametrize("dry_run", [False, True])
def test_7_an_engine_that_cannot_be_reached_fails_the_run_with_a_clear_message(
    dry_run: bool,
) -> None:
    host = closed_port()
    with pytest.raises(EngineUnavailable) as caught:
        clean_up_on(host, dry_run=dry_run)
    assert str(caught.value) == (
        f"the container engine at {host} cannot be reached: Connection refused"
    )


def test_2_9_an_engine_that_is_away_gets_four_attempts_as_the_ten_minute_jobs_have_them() -> None:
    assert attempts_of(EngineUnavailable("away")) == 4
    for task in TASKS:
        assert (task.retries, task.retry_delay_seconds) == (3, BACKOFF)
        assert task.retry_condition_fn is (no_time_out if task is count_orphans else only_transient)


@pytest.mark.parametrize(
    "fault",
    [
        {"DELETE_container": (500, {"message": "device or resource busy"})},
        {"DELETE_container": HANG},
        {"GET_inspect": (409, {"message": "device or resource busy"})},
    ],
)
def test_2_6_a_container_that_cannot_be_removed_is_a_failure_of_its_own(
    fault: dict[str, Any],
) -> None:
    with odd_engine(fault) as host:
        report = clean_up_on(host)
    assert (report.selected, report.done, report.failed) == (1, 0, 1)
    (failure,) = report.failures
    assert failure.item == f"container {ID[:12]} (odd)"
    assert "busy" in failure.cause or "did not answer" in failure.cause
    assert report.overdue is not None
    assert report.overdue.rows == 1


def test_10_7_one_container_with_an_odd_description_does_not_stop_the_others() -> None:
    labels: dict[str, str | None] = {**LABELS}
    labels |= dict.fromkeys((RUN_ID, STARTED_AT, TIMEOUT_SECONDS))
    odd = {**LISTED, "Id": "cd" * 32, "Labels": labels, "Created": 10**18}
    with odd_engine(GET_json=(200, [odd, LISTED])) as host:
        report = clean_up_on(host)
    assert (report.selected, report.done, report.failed) == (1, 1, 0)
    assert report.warnings[0].startswith(f"container {ID[:12]} (odd): {STARTED_AT} is missing")


def test_10_7_a_container_whose_inspection_cannot_be_read_is_a_failure_of_its_own() -> None:
    inspected = {**INSPECTED, "Created": "0001-01-01T00:00:00+14:00"}
    with odd_engine(GET_inspect=(200, inspected)) as host:
        report = clean_up_on(host)
    assert (report.selected, report.done, report.failed) == (1, 0, 1)


def test_an_engine_that_is_lost_during_the_removal_fails_the_run() -> None:
    busy = (503, {"message": "shutting down"})
    with (
        odd_engine(DELETE_container=busy, GET__ping=busy) as host,
        pytest.raises(EngineUnavailable, match="answered 503: shutting down"),
    ):
        clean_up_on(host)


def test_the_engine_is_asked_for_its_list_once_for_the_choice_and_once_for_the_count() -> None:
    requests: list[str] = []
    with odd_engine(requests=requests) as host:
        assert clean_up_on(host).done == 1
    assert sum("/containers/json" in one for one in requests) == 2
    about_it = [one.split("?")[0].rpartition("/v1.41/")[2] for one in requests if ID in one]
    assert about_it == [f"containers/{ID}/json", f"containers/{ID}/stop", f"containers/{ID}"]


@pytest.mark.docker
@pytest.mark.parametrize("remove_all", [False, True])
def test_7_when_the_database_is_away_only_the_containers_age_counts(
    containers: Containers, validibot: Validibot, remove_all: bool
) -> None:
    now = datetime.now(UTC)
    gone = validibot.run(None, status="TIMED_OUT", ended_at=now - HOUR)
    for run_id in (None, gone):
        containers.make(started=now - 2 * HOUR, timeout=60, run_id=run_id)
    kept = {containers.make(started=now, run_id=run_id) for run_id in (None, gone)}
    with using(DEPLOYMENT_TARGET="self_hosted", DATABASE_URL=NOWHERE):
        forecast = clean_up(remove_all=remove_all, dry_run=True)
        report = clean_up(remove_all=remove_all)
    assert containers.ids() == kept
    assert (forecast.selected, report.done) == (2, 2)
    assert abs(report.as_of - now) < timedelta(minutes=2)
    warnings = " ".join(report.warnings)
    assert "the database is unavailable" in warnings
    assert ("remove_all removes nothing while the runs cannot be read" in warnings) == remove_all
    assert "top-secret" not in report.model_dump_json()


@pytest.mark.docker
def test_7_a_database_that_is_lost_after_the_start_leaves_the_age(
    containers: Containers, validibot: Validibot
) -> None:
    now = datetime.now(UTC)
    gone = validibot.run(None, status="TIMED_OUT", ended_at=now - HOUR)
    kept = containers.make(started=now, run_id=gone)
    containers.make(started=now - 2 * HOUR, timeout=60, run_id=gone)
    start = choose_cutoff_or_own_clock.fn(JOB, None, dry_run=False)
    assert start.warnings == []
    options = OrphanOptions(JOB, timedelta(minutes=5), remove_all=True)
    with using(DEPLOYMENT_TARGET="self_hosted", DATABASE_URL=NOWHERE):
        selection = find_orphans.fn(start.cutoff, options)
    assert {one.id for one in selection.orphans} == containers.ids() - {kept}
    assert "the runs of containers cannot be read" in selection.warnings[0]
    assert "remove_all removes nothing" in selection.warnings[1]


def test_7_a_database_that_accepts_and_never_answers_is_not_waited_for() -> None:
    with silent() as host, odd_engine() as engine:
        started = time.monotonic()
        with using(
            DATABASE_URL=f"postgresql://a:b@{host.removeprefix('tcp://')}/c",
            MAINTENANCE_CONNECT_TIMEOUT_SECONDS="2",
        ):
            report = clean_up_on(engine)
        assert time.monotonic() - started < 20
    assert report.done == 1
    assert "the database is unavailable" in report.warnings[0]


def test_2_1_a_future_cutoff_is_refused_without_the_database_too() -> None:
    future = datetime.now(UTC) + HOUR
    with (
        using(DATABASE_URL=NOWHERE, DEPLOYMENT_TARGET="self_hosted", DOCKER_HOST=closed_port()),
        pytest.raises(ParameterError, match=r"future.*dry_run"),
    ):
        clean_up(as_of=future)


def test_2_8_the_guard_is_asked_before_the_engine(environment: Settings) -> None:
    holder = uuid4()
    with guard(environment, JOB, holder):
        report = clean_up_on(closed_port())
    assert report.stopped_because == "skipped"
    assert str(holder) in report.summary()


def test_2_8_without_an_engine_the_guard_is_asked_too_but_a_dry_run_takes_none(
    environment: Settings,
) -> None:
    holder = uuid4()
    with guard(environment, JOB, holder), using(DEPLOYMENT_TARGET=""):
        assert str(holder) in clean_up().summary()
        assert "has no container engine" in clean_up(dry_run=True).summary()
    with using(DEPLOYMENT_TARGET="", DATABASE_URL=NOWHERE):
        assert "has no container engine" in clean_up().summary()


@pytest.mark.parametrize("seconds", [-1, 86_401, "soon"])
def test_2_10_a_bad_grace_period_is_refused(seconds: object) -> None:
    with pytest.raises(ParameterTypeError, match="grace_period_seconds"):
        clean_up(grace_period_seconds=seconds)
