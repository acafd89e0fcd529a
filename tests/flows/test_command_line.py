"""`python -m flows` on the command line (SPEC 9)."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.jobs import JOBS
from maintenance.report import Report
from maintenance.settings import Settings
from tests.support.validibot import DAY, NOW, Validibot

ROOT = Path(__file__).parents[2]


def flows(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    for name in ("DATABASE_URL", "STORAGE_ROOT", "PREFECT_HOME"):
        if name in os.environ:
            environment[name] = os.environ[name]
    return subprocess.run(
        [sys.executable, "-m", "flows", *arguments],
        cwd=ROOT,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(autouse=True)
def _environment(environment: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds this test's database in its environment, and no profile of Prefect."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))


def test_json_is_one_object_on_standard_output_and_logs_are_elsewhere(
    validibot: Validibot,
) -> None:
    gone = validibot.submission()
    done = flows("purge-expired-submissions", "--json", "--as-of", "2026-11-15T12:00:00Z")
    assert done.returncode == 0, done.stderr
    report = Report.model_validate(json.loads(done.stdout))
    assert (report.done, report.as_of) == (1, NOW)
    assert "1 of 1 done" in done.stderr
    assert validibot.purged() == {gone}


def test_without_json_the_report_is_for_people(validibot: Validibot) -> None:
    validibot.session(NOW - DAY)
    done = flows("clear-sessions", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# clear-sessions (dry run: nothing was changed)")
    assert "1 selected" in done.stdout


def test_it_works_beside_an_address_where_no_server_answers(validibot: Validibot) -> None:
    validibot.session(NOW - DAY)
    done = flows("clear-sessions", "--json", PREFECT_API_URL="http://127.0.0.1:1/api")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == 1


def test_failed_items_end_with_status_1_and_are_named(validibot: Validibot) -> None:
    (validibot.root / "private" / "submissions" / "x").mkdir(parents=True)
    failing = validibot.submission(input_file="submissions/x")
    done = flows("purge-expired-submissions", "--json")
    assert done.returncode == 1
    (failure,) = json.loads(done.stdout)["failures"]
    assert failure["item"] == f"submission {failing}"


def test_a_run_that_fails_ends_with_status_1_and_one_clear_line(validibot: Validibot) -> None:
    shutil.rmtree(validibot.root / "private")
    done = flows("purge-expired-submissions", "--json")
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("purge-expired-submissions failed: storage root")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["clear-sessions", "--batch-size", "0"], "greater than or equal to 1"),
        (["clear-sessions", "--time-budget", "-5"], "greater than 0"),
        (["clear-sessions", "--as-of", "tomorrow"], "as_of"),
        (["clear-sessions", "--as-of", "2999-01-01T00:00:00Z"], "lies in the future"),
        (["clear-sessions", "--no-such-option"], "unrecognized arguments"),
        (["no-such-job"], "invalid choice"),
        ([], "name a JOB"),
    ],
)
def test_bad_options_end_with_status_2_and_change_nothing(
    validibot: Validibot, arguments: list[str], said: str
) -> None:
    validibot.session(NOW - DAY)
    before = validibot.snapshot()
    done = flows(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert validibot.snapshot() == before


def test_a_wrong_setting_ends_with_status_2_and_never_shows_what_it_held() -> None:
    done = flows("clear-sessions", DATABASE_URL="mysql://user:hunter2@host/name")
    assert done.returncode == 2
    assert "DATABASE_URL" in done.stderr
    assert "hunter2" not in done.stderr


def test_the_list_names_every_job_with_its_schedule() -> None:
    done = flows("--list")
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert set(lines) == set(JOBS)
    assert all(JOBS[name].schedule in line for name, line in lines.items())


@pytest.mark.parametrize("job", sorted(JOBS))
def test_every_parameter_is_an_option_with_a_help_text(job: str) -> None:
    done = flows(job, "--help")
    properties = JOBS[job].flow.parameters.properties
    shown = " ".join(done.stdout.split())
    for name, schema in properties.items():
        assert "--" + name.replace("_", "-") in done.stdout
        assert " ".join(schema["description"].split()) in shown
