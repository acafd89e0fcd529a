"""What prefect.yaml says, without a server."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint
from ruamel.yaml import YAML

from deployments.due import next_dates
from deployments.names import DEPLOYMENT, PREFECT_FILE, WORK_POOL
from deployments.setup.declared import DeclaredDeployment, read_declared
from deployments.setup.pools.variables import COMMAND
from flows.jobs import JOBS

Entry = dict[str, Any]

ZONE = "{{ $MAINTENANCE_TIME_ZONE }}"
INTERVALS = {
    "purge-expired-submissions": timedelta(hours=1),
    "purge-expired-outputs": timedelta(hours=1),
    "process-purge-retries": timedelta(minutes=5),
    "cleanup-stuck-runs": timedelta(minutes=10),
    "cleanup-orphaned-containers": timedelta(minutes=10),
}
DAILY = "cleanup-idempotency-keys"


def declared() -> list[DeclaredDeployment]:
    return read_declared(PREFECT_FILE)


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
    expected = {
        name: [
            {"slug": name, "cron": job.schedule, "timezone": "UTC" if name in INTERVALS else ZONE}
            | ({"active": False} if job.off_at_first else {})
        ]
        for name, job in JOBS.items()
    }
    assert schedules == expected


@pytest.mark.parametrize("zone", [None, "", "UTC", "Europe/Vienna"])
def test_daily_and_weekly_schedules_are_in_the_time_zone_of_the_environment_or_in_utc(
    monkeypatch: pytest.MonkeyPatch, zone: str | None
) -> None:
    if zone is None:
        monkeypatch.delenv("MAINTENANCE_TIME_ZONE", raising=False)
    else:
        monkeypatch.setenv("MAINTENANCE_TIME_ZONE", zone)
    zones = {one.slug: one.timezone for entry in declared() for one in entry.schedules}
    assert zones == {job: "UTC" if job in INTERVALS else zone or "UTC" for job in JOBS}


@pytest.mark.parametrize("night", [date(2026, 10, 25), date(2026, 3, 29)])
def test_a_job_of_every_so_many_minutes_has_no_gap_when_the_clocks_change(
    monkeypatch: pytest.MonkeyPatch, night: date
) -> None:
    """In Europe both happens at 1:00 UTC."""
    monkeypatch.setenv("MAINTENANCE_TIME_ZONE", "Europe/Vienna")
    since = datetime.combine(night, time(tzinfo=UTC)) - timedelta(hours=1)
    gaps: dict[str, set[timedelta]] = {}
    for entry in declared():
        for one in entry.schedules:
            dates = next_dates(one.timing.to_schedule(), 60, since)
            seconds = {(later - earlier).total_seconds() for earlier, later in pairwise(dates)}
            gaps[one.slug] = {timedelta(seconds=gap) for gap in seconds}
    assert {job: gaps[job] for job in INTERVALS} == {
        job: {every} for job, every in INTERVALS.items()
    }


def test_a_daily_job_keeps_its_hour_when_the_clocks_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINTENANCE_TIME_ZONE", "Europe/Vienna")
    (daily,) = (one for entry in declared() for one in entry.schedules if one.slug == DAILY)
    dates = next_dates(daily.timing.to_schedule(), 2, datetime(2026, 10, 24, tzinfo=UTC))
    assert [one.astimezone(ZoneInfo("Europe/Vienna")).hour for one in dates] == [3, 3]
    assert dates[1] - dates[0] == timedelta(hours=25)


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
