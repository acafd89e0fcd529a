"""cleanup-stuck-runs stops the containers of the runs that it ends (SPEC 6.3)."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flows.cleanup_stuck_runs import cleanup_stuck_runs
from maintenance import schema
from maintenance.containers.engine import ContainerEngine
from maintenance.containers.managed import ManagedContainer
from maintenance.report import Report
from maintenance.settings import Settings, settings
from maintenance.timed_out import ATTEMPT_ERROR_CODE
from tests.support.docker_engine import TARGET, Containers
from tests.support.odd_engine import HANG, ID, odd_engine
from tests.support.runs import run
from tests.support.stuck import Hanging
from tests.support.validibot import NOW, Validibot

STOPPED = "containers stopped"
NOT_STOPPED = {
    True: "containers of runs that would be ended would not be stopped: ",
    False: "containers of ended runs were not stopped: ",
}
HEX = "0123456789ab"


@pytest.fixture
def hanging(environment: Settings, validibot: Validibot) -> Hanging:
    return Hanging(validibot)


@pytest.fixture
def configured(hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> Hanging:
    """A deployment whose validators run in containers, on the engine that DOCKER_HOST names."""
    for name, value in TARGET.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    return hanging


def clean(**parameters: Any) -> Report:
    return run(cleanup_stuck_runs, **{"as_of": NOW, **parameters})


@pytest.mark.docker
def test_containers_of_ended_runs_are_gone_and_no_others(
    configured: Hanging, containers: Containers
) -> None:
    named, labelled, both, bare = (configured.run() for _ in range(4))
    live = configured.run(started_at=NOW)
    gone = {
        containers.make("running"),
        containers.make("paused", run_id=labelled),
        containers.make("exited", run_id=labelled),
        containers.make("created", run_id=both),
    }
    by_id = next(one for one in gone if containers.state(one) == "running")
    configured.tried(named, provider_execution_id=by_id)
    configured.tried(both, provider_execution_id=by_id[:12], runner_type="docker again")
    for odd in ("", "a-name", "abc", "projects/p/executions/e-1"):
        configured.tried(configured.run(), provider_execution_id=odd, runner_type=odd)
    configured.tried(bare, provider_execution_id="f" * 64)
    kept = {
        containers.make("running", run_id=live),
        containers.make("running", run_id=uuid4()),
        containers.make("running"),
        containers.make("created", run_id=named, managed=None),
        containers.make("created", run_id="no run"),
    }
    forecast = clean(dry_run=True)
    assert containers.ids() == gone | kept
    report = clean()
    assert containers.ids() == kept
    assert forecast.repaired == report.repaired == {STOPPED: 4}
    assert (report.done, report.failed, report.warnings) == (8, 0, [])


@pytest.mark.docker
def test_what_a_crash_left_running_is_stopped_when_its_run_is_finished(
    configured: Hanging, containers: Containers
) -> None:
    ended = configured.left()
    attempt = {"state": "TIMED_OUT", "last_error_code": ATTEMPT_ERROR_CODE}
    by_id, labelled = containers.make("running"), containers.make("running", run_id=ended)
    configured.tried(ended, provider_execution_id=by_id, **attempt)
    forecast = clean(dry_run=True)
    report = clean()
    assert containers.ids().isdisjoint({by_id, labelled})
    assert forecast.repaired == report.repaired == {STOPPED: 2, "runs finished": 1}


@pytest.mark.docker
def test_a_container_that_vanishes_before_it_is_stopped_is_no_failure(
    configured: Hanging, containers: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = containers.make("exited", run_id=configured.run())
    listed = ContainerEngine.managed

    def managed(engine: ContainerEngine) -> list[ManagedContainer]:
        found = listed(engine)
        containers.client.remove_container(container, force=True)
        return found

    monkeypatch.setattr(ContainerEngine, "managed", managed)
    report = clean()
    assert containers.ids() == set()
    assert (report.done, report.failed, report.warnings, report.repaired) == (1, 0, [], {})


def test_an_engine_that_is_away_is_a_warning_and_the_runs_end(
    configured: Hanging, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    settings.cache_clear()
    runs = {configured.run() for _ in range(5)}
    for dry_run in (True, False):
        report = clean(batch_size=1, dry_run=dry_run)
        (warning,) = report.warnings
        assert warning.startswith(NOT_STOPPED[dry_run])
        assert "absent.sock" in warning
        assert (report.selected, report.failed) == (5, 0)
    ended = configured.validibot.rows(schema.runs)
    assert {key for key, row in ended.items() if row["status"] == "TIMED_OUT"} == runs
    assert len(configured.validibot.rows(schema.evidence)) == 5


@pytest.mark.parametrize(("execution", "warned"), [(HEX, True), ("projects/p/e", False)])
def test_without_an_engine_only_an_attempt_that_names_a_container_causes_a_warning(
    hanging: Hanging, execution: str, *, warned: bool
) -> None:
    hanging.tried(hanging.run(), provider_execution_id=execution)
    for dry_run in (True, False):
        report = clean(dry_run=dry_run)
        assert (report.selected, report.failed) == (1, 0)
        assert [one.startswith(NOT_STOPPED[dry_run]) for one in report.warnings] == [True] * warned
        assert all("DEPLOYMENT_TARGET" in one for one in report.warnings)


def test_a_run_without_anything_to_end_does_not_ask_the_engine(
    configured: Hanging, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    settings.cache_clear()
    configured.run(started_at=NOW)
    assert clean().warnings == []


def on(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the settings at a container engine, with a short timeout."""
    monkeypatch.setenv("DOCKER_HOST", host)
    monkeypatch.setenv("MAINTENANCE_DOCKER_TIMEOUT_SECONDS", "0.5")
    settings.cache_clear()


def test_a_container_that_cannot_be_removed_is_a_warning(
    configured: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured.tried(configured.run(), provider_execution_id=ID)
    with odd_engine(DELETE_container=(409, {"message": "it is mounted elsewhere"})) as host:
        on(host, monkeypatch)
        report = clean()
    (warning,) = report.warnings
    assert warning.startswith(f"container {ID[:12]} (odd) was not stopped: ")
    assert "it is mounted elsewhere" in warning
    assert (report.done, report.failed, report.repaired) == (1, 0, {})


def test_an_engine_that_hangs_is_asked_once_and_does_not_delay_the_run(
    configured: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(6):
        configured.run()
    requests: list[str] = []
    with odd_engine(GET_version=HANG, requests=requests) as host:
        on(host, monkeypatch)
        report = clean(batch_size=1)
    assert len(requests) == 1
    (warning,) = report.warnings
    assert "were not stopped" in warning
    assert (report.done, report.failed) == (6, 0)


def test_all_containers_are_listed_once_a_batch_and_not_once_a_run(
    configured: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(40):
        configured.tried(configured.run())
    requests: list[str] = []
    with odd_engine(requests=requests) as host:
        on(host, monkeypatch)
        report = clean(batch_size=20)
    lists = [one for one in requests if "/containers/json" in one]
    assert len(lists) < 10
    assert (report.done, report.repaired) == (40, {})
