"""Runs on a Prefect server: their states, their reports, and what the UI shows."""

import json
import logging
import re
import subprocess
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.settings import (
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)
from prefect.variables import Variable

from demo.servers import PrefectServer
from flows.clear_sessions import clear_sessions
from flows.purge_expired_submissions import purge_expired_submissions
from maintenance.guard import guard
from maintenance.settings import Settings
from tasks.purge.failure_history import ALERT_RUNS, count_failures
from tests.support.browser import page_content
from tests.support.commands import run_command, without_prefect
from tests.support.prefect_server import settings_of
from tests.support.validibot import DAY, NOW, Validibot


@pytest.fixture(autouse=True)
def _environment(environment: Settings) -> None:
    """Every test here runs against its own database and storage."""


def flows(server: PrefectServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = without_prefect(**server.client_settings)
    return run_command("flows", *arguments, "--json", env=variables, timeout=90)


def latest(server: PrefectServer, what: str, **query: Any) -> dict[str, Any]:
    answer = server.api.ask("POST", f"/{what}/filter", query)
    newest: dict[str, Any] = answer[0]
    return newest


@flow
def counting(causes: dict[str, str]) -> int:
    return count_failures("a-job", causes)


def latest_run(server: PrefectServer, job: str) -> dict[str, Any]:
    return latest(
        server, "flow_runs", flows={"name": {"any_": [job]}}, sort="EXPECTED_START_TIME_DESC"
    )


def errors_of(server: PrefectServer, run: str) -> list[str]:
    """Return what a run has logged at ERROR, except the state in which it ended."""
    query = {"logs": {"flow_run_id": {"any_": [run]}, "level": {"ge_": logging.ERROR}}}
    found = server.api.ask("POST", "/logs/filter", query)
    return [one["message"] for one in found if "Finished in state" not in one["message"]]


def test_2_7_a_run_is_completed_with_its_summary_and_its_report_is_an_artifact(
    validibot: Validibot, prefect_server: PrefectServer
) -> None:
    validibot.submission()
    done = flows(prefect_server, purge_expired_submissions.name)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == 1
    named = latest_run(prefect_server, purge_expired_submissions.name)
    assert re.fullmatch(r"purge-expired-submissions 20.*:\d\d, by hand", named["name"])
    state = named["state"]
    assert (state["type"], state["name"]) == ("COMPLETED", "Completed")
    assert state["message"] == "1 of 1 done"
    artifact = latest(prefect_server, "artifacts", sort="CREATED_DESC")
    assert artifact["key"] == purge_expired_submissions.name
    assert "**1 of 1 done**" in artifact["data"]


def test_2_7_a_run_with_failed_items_is_red_and_found_by_its_state(
    validibot: Validibot, prefect_server: PrefectServer
) -> None:
    (validibot.root / "private/submissions/x").mkdir(parents=True)
    failing = validibot.submission(input_file="submissions/x")
    done = flows(prefect_server, purge_expired_submissions.name)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["failures"][0]["item"] == f"submission {failing}"
    state = latest_run(prefect_server, purge_expired_submissions.name)["state"]
    assert (state["type"], state["name"]) == ("FAILED", "Failed")
    assert state["message"] == "Items failed: 0 of 1 done, 1 failed, 1 still overdue"
    assert done.stderr.count(f"submission {failing} failed: ") == 1
    assert "Traceback" not in done.stderr
    (line,) = errors_of(prefect_server, state["state_details"]["flow_run_id"])
    assert f"submission {failing} failed: storage root {validibot.root}/private: sub" in line
    assert "; correct the cause; tried 1 time so far, the next attempt is after 20" in line


def test_2_7_the_history_of_reports_tells_dry_runs_from_real_ones(
    validibot: Validibot, prefect_server: PrefectServer
) -> None:
    validibot.session(NOW - DAY)
    told = []
    for options in (["--dry-run"], []):
        flows(prefect_server, clear_sessions.name, *options)
        artifact = latest(prefect_server, "artifacts", sort="CREATED_DESC")
        told.append((artifact["description"], artifact["data"].splitlines()[0]))
    assert told == [
        ("Dry run: 1 selected, nothing changed", "# clear-sessions (dry run: nothing was changed)"),
        ("1 of 1 done", "# clear-sessions"),
    ]
    run = latest_run(prefect_server, clear_sessions.name)
    assert "dry run" not in run["name"]


def test_2_8_a_run_while_another_holds_the_job_is_completed_as_skipped(
    validibot: Validibot, prefect_server: PrefectServer, environment: Settings
) -> None:
    holder = uuid4()
    with guard(environment, clear_sessions.name, holder):
        done = flows(prefect_server, clear_sessions.name)
    assert done.returncode == 0, done.stderr
    state = latest_run(prefect_server, clear_sessions.name)["state"]
    assert (state["type"], state["name"]) == ("COMPLETED", "Skipped")
    assert f"flow run {holder} holds the job" in state["message"]


def test_5_3_five_failed_runs_in_a_row_raise_an_alert_and_a_good_one_ends_the_count(
    prefect_server: PrefectServer,
) -> None:
    with temporary_settings({**settings_of(prefect_server), PREFECT_LOGGING_TO_API_ENABLED: False}):
        alerts = [counting({"run 1": "no"}) for _ in range(ALERT_RUNS - 1)]
        assert set(alerts) == {0}
        assert counting({"run 1": "no", "run 2": "no"}) == 1
        assert counting({"run 2": "no"}) == 0
        assert counting({"run 1": "no", "run 2": "no"}) == 0
        assert counting({}) == 0
    kept = latest(prefect_server, "artifacts", sort="CREATED_DESC")
    assert (kept["key"], json.loads(kept["data"])) == ("a-job-failures", [])


@pytest.mark.browser
def test_the_pages_of_the_ui_show_the_run_and_its_report(
    validibot: Validibot, prefect_server: PrefectServer
) -> None:
    validibot.session(NOW - DAY)
    done = flows(prefect_server, clear_sessions.name)
    assert done.returncode == 0, done.stderr
    run = latest_run(prefect_server, clear_sessions.name)
    page = page_content(prefect_server, f"/runs/flow-run/{run['id']}", "Completed")
    assert run["name"] in page
    artifact = latest(prefect_server, "artifacts", sort="CREATED_DESC")
    page = page_content(prefect_server, f"/artifacts/artifact/{artifact['id']}", "1 of 1 done")
    assert "Rows by table" in page


@pytest.mark.browser
def test_the_table_of_failures_shows_hostile_names_as_text(prefect_server: PrefectServer) -> None:
    hostile = (
        "[click](javascript:alert(1)) ![dot](http://127.0.0.1:1/a.png) <b id=raw>b</b>"
        " http://127.0.0.1:1/auto"
    )
    with temporary_settings({**settings_of(prefect_server), PREFECT_LOGGING_TO_API_ENABLED: False}):
        counting({f"run 1 {hostile}": hostile})
        assert counting({f"run 1 {hostile}": hostile}) == 0
    artifact = latest(prefect_server, "artifacts", sort="CREATED_DESC")
    (row,) = json.loads(artifact["data"])
    assert row["runs"] == 2
    page = page_content(prefect_server, f"/artifacts/artifact/{artifact['id']}", "click")
    assert 'href="javascript:' not in page
    assert 'src="http://127.0.0.1:1' not in page
    assert 'href="http://127.0.0.1:1' not in page
    assert 'id="raw"' not in page


def test_10_11_a_whole_table_is_searched_at_most_once_an_hour(
    prefect_server: PrefectServer, validibot: Validibot
) -> None:
    job = "process-purge-retries"
    name = "process_purge_retries_discovery"

    def lacking() -> UUID:
        return validibot.submission(retention_policy="DO_NOT_STORE", expires_at=None)

    def discovered() -> int:
        done: int = json.loads(flows(prefect_server, job).stdout)["done"]
        return done

    with temporary_settings({**settings_of(prefect_server), PREFECT_LOGGING_TO_API_ENABLED: False}):
        Variable.unset(name)
        lacking()
        assert discovered() == 1
        later = lacking()
        assert discovered() == 0
        noted = datetime.fromisoformat(str(Variable.get(name)))
        Variable.set(name, (noted - timedelta(hours=1)).isoformat(), overwrite=True)
        assert discovered() == 1
        assert later in validibot.purged()
        Variable.unset(name)
