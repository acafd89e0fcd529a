"""`python -m maintenance run | pause | resume JOB` against a real server."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import temporary_settings

from demo.environment import clean_environment
from demo.servers import PrefectServer, start_worker
from maintenance.cli import main
from maintenance.settings import Settings
from tests.support.prefect_server import ask, deployments, schedules, settings_of
from tests.support.validibot import DAY, NOW, Validibot

JOB = "clear-sessions"
STOP_SECONDS = 10.0

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_job_is_paused_and_resumed_by_its_name(
    restored: PrefectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> str:
        assert main(arguments) == 0
        return capsys.readouterr().out.strip()

    ((cron, zone, _),) = schedules(restored)[JOB]
    assert said("pause", JOB) == f"{JOB}/default: paused 1 schedule ({cron} {zone})"
    assert schedules(restored)[JOB] == [(cron, zone, False)]
    assert said("pause", JOB) == f"{JOB}/default: was paused already"
    assert said("resume", JOB) == f"{JOB}/default: resumed 1 schedule ({cron} {zone})"
    assert schedules(restored)[JOB] == [(cron, zone, True)]
    identifier = deployments(restored)[JOB]["id"]
    ask(restored, "PATCH", f"/deployments/{identifier}", {"paused": True})
    assert said("resume", JOB) == f"{JOB}/default: resumed"
    assert not deployments(restored)[JOB]["paused"]


def test_the_parameters_of_a_schedule_survive_a_pause(restored: PrefectServer) -> None:
    found = deployments(restored)[JOB]
    (schedule,) = found["schedules"]
    path = f"/deployments/{found['id']}/schedules/{schedule['id']}"
    ask(restored, "PATCH", path, {"parameters": {"max_batches": 3}})
    for command in ("pause", "resume"):
        assert main([command, JOB]) == 0
    (schedule,) = deployments(restored)[JOB]["schedules"]
    assert schedule["parameters"] == {"max_batches": 3}
    ask(restored, "PATCH", path, {"parameters": {}})


@pytest.mark.parametrize("command", ["run", "pause", "resume"])
def test_a_job_that_is_not_deployed_is_said(
    prefect_server: PrefectServer, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with temporary_settings(settings_of(prefect_server)):
        assert main([command, JOB]) == 1
    assert capsys.readouterr().err == (
        f"python -m maintenance: there is no deployment {JOB}/default;"
        " `python -m deployments` makes it\n"
    )


def test_a_bad_option_starts_no_run(
    deployed: PrefectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    before = ask(deployed, "POST", "/flow_runs/count", {"flow_runs": {"tags": {"all_": []}}})
    assert main(["run", JOB, "--batch-size", "0"]) == 2
    assert capsys.readouterr().err.endswith("--batch-size 0: must be at least 1\n")
    after = ask(deployed, "POST", "/flow_runs/count", {"flow_runs": {"tags": {"all_": []}}})
    assert after == before


@pytest.fixture
def served(
    quiet_server: PrefectServer, environment: Settings, tmp_path: Path
) -> Iterator[PrefectServer]:
    """A server with a worker whose runs work on this test's database."""
    variables = clean_environment(os.environ, tmp_path) | quiet_server.client_settings
    variables |= {name: os.environ[name] for name in ("DATABASE_URL", "STORAGE_ROOT")}
    worker = start_worker(tmp_path, variables)
    with temporary_settings(settings_of(quiet_server)):
        yield quiet_server
    worker.stop(STOP_SECONDS)


def test_a_run_is_started_followed_and_its_report_is_named(
    served: PrefectServer, validibot: Validibot, capsys: pytest.CaptureFixture[str]
) -> None:
    validibot.session(NOW - DAY)
    (validibot.root / "private/submissions/x").mkdir(parents=True)
    validibot.submission(input_file="submissions/x")
    options = ("--as-of", "2026-11-15T12:00:00Z")
    assert main(["run", JOB, "--dry-run", *options]) == 0
    shown = capsys.readouterr()
    summary, report = shown.out.splitlines()
    assert summary == "Dry run: 1 selected, nothing changed"
    kept = report.removeprefix(f"report: {served.api.address}/artifacts/artifact/")
    data = ask(served, "GET", f"/artifacts/{kept}")["data"]
    assert data.startswith("# clear-sessions (dry run")
    assert f"{served.api.address}/runs/flow-run/" in shown.err
    assert "Completed" in shown.err
    assert ", dry run, by hand: " in shown.err
    assert main(["run", "purge-expired-submissions", "--json", *options]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["completed"]) == ("Failed", False)
    assert found["message"].startswith("Items failed: 0 of 1 done, 1 failed")
    assert found["report"].startswith(f"{served.api.address}/artifacts/artifact/")
