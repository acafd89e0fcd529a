"""Misspelt variables are named, each with the nearest one that is known."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.settings import DeploymentSettings, load_deployment_settings
from maintenance import cli
from maintenance.settings import Settings, load_settings
from maintenance.unknown_variables import ELSEWHERE, unknown_variables, variables_of

KNOWN = variables_of(Settings.model_fields)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("MAINTENANCE_BATCHSIZE", "MAINTENANCE_BATCH_SIZE"),
        ("MAINTENANCE_TIME_BUDGET", "MAINTENANCE_TIME_BUDGET_SECONDS"),
        ("MAINTENANCE_SUCCES_PING_URL", "MAINTENANCE_SUCCESS_PING_URL"),
        ("MAINTENANCE_TIMEZONE", "MAINTENANCE_TIME_ZONE"),
        ("maintenance_batchsize", "MAINTENANCE_BATCH_SIZE"),
    ],
)
def test_8_a_misspelt_variable_is_named_with_the_nearest_one_and_without_its_value(
    name: str, near: str
) -> None:
    (said,) = unknown_variables(KNOWN, {name: "hidden-password"})
    assert said == f"{name} is not known and has no effect; do you mean {near}?"


def test_8_an_unknown_variable_that_is_near_to_none_is_named_alone() -> None:
    said = unknown_variables(KNOWN, {"MAINTENANCE_XYZ": "1", "OTHER": "1"})
    assert said == ["MAINTENANCE_XYZ is not known and has no effect"]


def test_8_every_known_variable_is_known() -> None:
    both = (*KNOWN, *variables_of(DeploymentSettings.model_fields), *ELSEWHERE)
    assert not unknown_variables(KNOWN, dict.fromkeys((*both, "maintenance_batch_size"), "1"))


def test_8_every_variable_that_a_file_of_the_project_names_is_known() -> None:
    files = ["compose.yaml", ".env.example", "Dockerfile", "prefect.yaml", "docs"]
    found = subprocess.run(
        ["grep", "-rhoE", r"\bMAINTENANCE_[A-Z_]*[A-Z]\b", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = set(found.stdout.split())
    assert "MAINTENANCE_BATCH_SIZE" in names
    assert not unknown_variables(KNOWN, dict.fromkeys(names, "1"))


def test_8_runs_deployments_and_the_check_warn_of_it(
    environment: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MAINTENANCE_BATCHSIZE", "5")
    said = "MAINTENANCE_BATCHSIZE is not known and has no effect; do you mean"
    load_settings()
    assert said in caplog.text
    caplog.clear()
    load_deployment_settings()
    assert said in caplog.text
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        cli.main(["check", "--json"])
    (found,) = [
        one for one in json.loads(capsys.readouterr().out)["checks"] if one["name"] == "settings"
    ]
    assert found["level"] == "warning"
    assert said in found["action"]
    assert not re.search(r"\b5\b", found["action"])
