"""`python -m deployments` against a real server."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.apply import ApplyError, apply
from deployments.environment import clean_environment
from deployments.names import WORK_POOL
from deployments.servers import PrefectServer
from flows.jobs import JOBS

APPLY_SECONDS = 90


@pytest.fixture(scope="module")
def server() -> Iterator[PrefectServer]:
    with tempfile.TemporaryDirectory(prefix="vm-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        with PrefectServer(home, home, clean_environment(os.environ, home)) as running:
            running.wait_until_ready()
            yield running


def run_apply(cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deployments"],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=APPLY_SECONDS,
        check=False,
    )


def deployments(server: PrefectServer) -> dict[str, dict[str, Any]]:
    found = httpx.post(f"{server.api.address}/api/deployments/filter", json={}, trust_env=False)
    flows = httpx.post(f"{server.api.address}/api/flows/filter", json={}, trust_env=False)
    names = {flow["id"]: flow["name"] for flow in flows.raise_for_status().json()}
    return {names[one["flow_id"]]: one for one in found.raise_for_status().json()}


@pytest.mark.slow
def test_applying_twice_keeps_one_schedule_each_and_a_paused_one_paused(
    server: PrefectServer, tmp_path: Path
) -> None:
    # From any folder, and with a work pool, runs in the future, and no second copy of anything.
    environment = clean_environment(os.environ, tmp_path) | server.client_settings
    first = run_apply(tmp_path, environment)
    assert (first.returncode, first.stderr) == (0, "")
    for name in JOBS:
        (line,) = (line for line in first.stdout.splitlines() if line.startswith(f"{name}/"))
        assert line.endswith(" UTC")
    assert server.api.has_work_pool(WORK_POOL)

    before = deployments(server)
    assert before.keys() == JOBS.keys()
    paused = "clear-sessions"
    schedule = before[paused]["schedules"][0]["id"]
    httpx.patch(
        f"{server.api.address}/api/deployments/{before[paused]['id']}/schedules/{schedule}",
        json={"active": False},
        trust_env=False,
    ).raise_for_status()

    second = run_apply(tmp_path, environment)
    assert (second.returncode, second.stderr) == (0, "")
    after = deployments(server)
    assert {name: one["id"] for name, one in after.items()} == {
        name: one["id"] for name, one in before.items()
    }
    for name, one in after.items():
        (schedule,) = one["schedules"]
        assert schedule["slug"] == name
        assert schedule["schedule"]["cron"] == JOBS[name].schedule
        assert schedule["active"] is (name != paused)
    (line,) = (line for line in second.stdout.splitlines() if line.startswith(f"{paused}/"))
    assert "yes" in line.split()


def test_a_missing_address_is_one_clear_line(tmp_path: Path) -> None:
    environment = clean_environment(os.environ, tmp_path) | {"PREFECT_HOME": str(tmp_path)}
    done = run_apply(tmp_path, environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "PREFECT_API_URL is not set" in done.stderr


def test_a_server_that_does_not_answer_is_one_clear_line(tmp_path: Path) -> None:
    environment = clean_environment(os.environ, tmp_path)
    environment |= {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": "http://127.0.0.1:1/api"}
    done = run_apply(tmp_path, environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "no Prefect server answers at http://127.0.0.1:1/api" in done.stderr


def test_a_missing_file_is_told_before_the_server_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ApplyError, match=r"absent\.yaml does not exist"):
        apply(tmp_path / "absent.yaml")
