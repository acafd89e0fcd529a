"""The locked Prefect is started on the records of an older one, and the deployments are applied."""

import gzip
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from demo.environment import clean_environment
from demo.processes import wait_until
from demo.servers import PrefectServer
from flows.jobs import JOBS
from maintenance.settings import Settings
from tests.support.jobs_on_server import scheduled_jobs
from tests.support.memory import temporary_folder
from tests.support.prefect_server import ask, automations, deployments, everything, schedules
from tests.upgrade.history import (
    BY_HAND,
    BY_THE_WORKER,
    CRON,
    DEPLOYMENT_PAUSED,
    EDITED,
    SCHEDULE_PAUSED,
    TIME_ZONE,
    python,
)
from tests.upgrade.record import DATABASE, FOLDER

RECORDED = sorted(FOLDER.glob("prefect-*.sql.gz"))
SCHEDULED_SECONDS = 60
ENDED = "SELECT id, name, state_name FROM flow_run WHERE end_time IS NOT NULL"
REPORTS = "SELECT id FROM artifact"
AUTOMATIONS = "SELECT name FROM automation"
SCHEDULER = {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2"}

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("servers that are set up"),
]


@dataclass(frozen=True)
class Upgraded:
    """A server that was started on older records, and on which the deployments were applied.

    Attributes:
        runs: of those that had ended before, identifier, name and name of the state.
        reports: the identifiers of the artifacts from before.
        automations: the names of those from before.
    """

    server: PrefectServer
    runs: set[tuple[Any, ...]]
    reports: set[tuple[Any, ...]]
    automations: list[str]


@pytest.fixture(scope="module", params=RECORDED, ids=lambda path: path.name.split(".sql")[0])
def upgraded(request: pytest.FixtureRequest) -> Iterator[Upgraded]:
    with temporary_folder() as name:
        home = Path(name)
        with closing(sqlite3.connect(home / DATABASE)) as database:
            database.executescript(gzip.decompress(request.param.read_bytes()).decode())
            runs, reports, names = (
                database.execute(query).fetchall() for query in (ENDED, REPORTS, AUTOMATIONS)
            )
        environment = clean_environment(os.environ, home) | SCHEDULER
        with PrefectServer(home, home, environment) as running:
            running.wait_until_ready()
            python(running, environment, home, "-m", "deployments")
            yield Upgraded(running, set(runs), set(reports), [name for (name,) in names])


def test_there_are_records_of_an_older_version() -> None:
    assert [path for path in RECORDED if version("prefect") not in path.name]


def test_the_history_is_kept_with_its_reports(upgraded: Upgraded) -> None:
    assert len(upgraded.runs) == len(BY_HAND) + len(BY_THE_WORKER)
    assert len(upgraded.reports) >= len(upgraded.runs)
    found = ask(upgraded.server, "POST", "/flow_runs/filter", {"sort": "ID_DESC"})
    runs = {(one["id"], one["name"], one["state_name"]) for one in found if one["end_time"]}
    assert runs >= upgraded.runs
    for run, _, _ in upgraded.runs:
        states = ask(upgraded.server, "GET", f"/flow_run_states/?flow_run_id={run}")
        assert "COMPLETED" in {one["type"] for one in states}
    kept = {one["id"]: one["data"] for one in ask(upgraded.server, "POST", "/artifacts/filter", {})}
    assert all(kept[key] for (key,) in upgraded.reports)


def test_what_operators_edited_and_paused_stays_so(upgraded: Upgraded) -> None:
    expected = {name: [(job.schedule, "UTC", not job.off_at_first)] for name, job in JOBS.items()}
    expected[EDITED] = [(CRON, TIME_ZONE, True)]
    expected[SCHEDULE_PAUSED] = [(JOBS[SCHEDULE_PAUSED].schedule, "UTC", False)]
    assert schedules(upgraded.server) == expected
    paused = {job for job, one in deployments(upgraded.server).items() if one["paused"]}
    assert paused == {DEPLOYMENT_PAUSED}


def test_the_schedules_that_are_on_get_new_runs(upgraded: Upgraded) -> None:
    off = {name for name, job in JOBS.items() if job.off_at_first}
    on = JOBS.keys() - off - {SCHEDULE_PAUSED, DEPLOYMENT_PAUSED}
    wait_until(lambda: scheduled_jobs(upgraded.server) == on, SCHEDULED_SECONDS, "coming runs", [])


def test_each_automation_is_there_once(upgraded: Upgraded) -> None:
    found = automations(upgraded.server)
    assert {name for name, one in found.items() if len(one) != 1} == set()
    assert found.keys() >= set(upgraded.automations)
    assert upgraded.automations


def test_another_apply_changes_nothing(upgraded: Upgraded, tmp_path: Path) -> None:
    before = everything(upgraded.server)
    environment = clean_environment(os.environ, tmp_path)
    said = python(upgraded.server, environment, tmp_path, "-m", "deployments")
    assert "Changed: nothing" in said
    assert everything(upgraded.server) == before


@pytest.mark.usefixtures("validibot")
def test_a_dry_run_by_hand_is_in_the_history(
    upgraded: Upgraded, environment: Settings, tmp_path: Path
) -> None:
    names = ("DATABASE_URL", "STORAGE_ROOT")
    variables = clean_environment(os.environ, tmp_path) | {name: os.environ[name] for name in names}
    python(upgraded.server, variables, tmp_path, "-m", "flows", EDITED, "--dry-run")
    found = ask(upgraded.server, "POST", "/flow_runs/filter", {"sort": "START_TIME_DESC"})
    newest = max((one for one in found if one["start_time"]), key=lambda one: one["start_time"])
    assert newest["parameters"]["dry_run"]
    assert newest["id"] not in {run[0] for run in upgraded.runs}
    assert newest["state_type"] == "COMPLETED"
    of_run = {"artifacts": {"flow_run_id": {"any_": [newest["id"]]}}}
    assert ask(upgraded.server, "POST", "/artifacts/filter", of_run)
