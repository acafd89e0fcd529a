"""What prefect.yaml says, without a server."""

from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint
from ruamel.yaml import YAML

from deployments.names import DEPLOYMENT, PREFECT_FILE, WORK_POOL
from deployments.setup.declared import read_declared
from deployments.setup.pools.variables import COMMAND
from flows.jobs import JOBS

Entry = dict[str, Any]


@pytest.fixture(scope="module")
def prefect_yaml() -> Entry:
    content: Entry = YAML(typ="safe").load(PREFECT_FILE)
    return content


@pytest.fixture(scope="module")
def by_job(prefect_yaml: Entry) -> dict[str, Entry]:
    """The deployments by the name of the flow that their entrypoint leads to."""
    found: dict[str, Entry] = {}
    for entry in prefect_yaml["deployments"]:
        flow: Flow[..., Any] = load_flow_from_entrypoint(entry["entrypoint"])
        assert isinstance(flow, Flow)
        assert flow.name not in found
        found[flow.name] = entry
    return found


def test_every_job_is_deployed_once_under_the_same_name(by_job: dict[str, Entry]) -> None:
    assert by_job.keys() == JOBS.keys()
    assert {entry["name"] for entry in by_job.values()} == {DEPLOYMENT}
    for name, entry in by_job.items():
        module, _, function = entry["entrypoint"].rpartition(".")
        assert JOBS[name].flow.fn.__module__ == module
        assert JOBS[name].flow.fn.__name__ == function


def test_each_job_has_one_schedule_as_the_flow_says(by_job: dict[str, Entry]) -> None:
    schedules = {name: entry["schedules"] for name, entry in by_job.items()}
    zone = "{{ $MAINTENANCE_TIME_ZONE }}"
    expected = {
        name: [
            {"slug": name, "cron": job.schedule, "timezone": zone}
            | ({"active": False} if job.off_at_first else {})
        ]
        for name, job in JOBS.items()
    }
    assert schedules == expected


@pytest.mark.parametrize("zone", [None, "", "UTC", "Europe/Vienna"])
def test_the_schedules_are_in_the_time_zone_of_the_environment_or_in_utc(
    monkeypatch: pytest.MonkeyPatch, zone: str | None
) -> None:
    if zone is None:
        monkeypatch.delenv("MAINTENANCE_TIME_ZONE", raising=False)
    else:
        monkeypatch.setenv("MAINTENANCE_TIME_ZONE", zone)
    zones = {one.timezone for entry in read_declared(PREFECT_FILE) for one in entry.schedules}
    assert zones == {zone or "UTC"}


def test_what_an_operator_paused_is_not_resumed(by_job: dict[str, Entry]) -> None:
    for entry in by_job.values():
        assert "paused" not in entry
        assert all(schedule.get("active") is not True for schedule in entry["schedules"])


def test_no_job_runs_twice_at_a_time_and_a_backlog_is_dropped(by_job: dict[str, Entry]) -> None:
    for entry in by_job.values():
        assert entry["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


def test_runs_start_without_pull_steps_and_a_second_interpreter(
    prefect_yaml: Entry, by_job: dict[str, Entry]
) -> None:
    assert prefect_yaml["pull"] == []
    for entry in by_job.values():
        assert not {"pull", "build", "push"} & entry.keys()
        pool = entry["work_pool"]
        assert pool["name"] == WORK_POOL
        assert pool["job_variables"] == {"command": COMMAND}


def test_no_setting_of_the_worker_is_written_into_a_deployment(by_job: dict[str, Entry]) -> None:
    for entry in by_job.values():
        assert "parameters" not in entry
        assert "env" not in entry["work_pool"]["job_variables"]


def test_prefect_yaml_is_at_the_root_of_the_project() -> None:
    assert Path(PREFECT_FILE).parent.joinpath("pyproject.toml").is_file()
