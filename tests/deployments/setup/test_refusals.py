"""What `python -m deployments` refuses, each with one clear line, before anything is changed."""

import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from demo.environment import clean_environment
from deployments.names import PREFECT_FILE
from deployments.settings import load_deployment_settings
from deployments.setup.declared import DeclarationError, read_declared
from maintenance.errors import SettingsError
from tests.support.commands import run_command, run_fresh


def refused(cwd: Path, run: Callable[..., CompletedProcess[str]], **variables: str) -> str:
    """Return the only line that it says."""
    environment = clean_environment(os.environ, cwd) | {"PREFECT_HOME": str(cwd)} | variables
    done = run("deployments", cwd=cwd, env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


def test_a_missing_address(tmp_path: Path) -> None:
    assert "PREFECT_API_URL is not set" in refused(tmp_path, run_fresh)


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    address = "http://127.0.0.1:1/api"
    said = refused(tmp_path, run_command, PREFECT_API_URL=address)
    assert f"no Prefect server answers at {address}" in said


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("MAINTENANCE_WORK_POOL_TYPE", "celery", "'process', 'docker' or 'kubernetes'"),
        ("MAINTENANCE_TIME_ZONE", "Vienna", "Europe/Vienna"),
        ("MAINTENANCE_TIME_ZONE", "../etc/passwd", "Europe/Vienna"),
    ],
)
def test_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_deployment_settings()
    assert variable in str(caught.value)
    assert allowed in str(caught.value)
    assert value not in str(caught.value).replace("Europe/Vienna", "")


def test_settings_that_are_empty_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MAINTENANCE_WORK_POOL_TYPE", "MAINTENANCE_TIME_ZONE", "MAINTENANCE_IMAGE"):
        monkeypatch.setenv(variable, "")
    settings = load_deployment_settings()
    assert (settings.work_pool_type, settings.time_zone) == (None, "UTC")


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ('cron: "0 2 * * *"', 'cron: "0 25 * * *"', "Invalid cron"),
        ("slug: clear-sessions, ", "", "slug: Field required"),
        (
            "slug: clear-sessions, ",
            "slug: clear-sessions, active: true, ",
            "active: Input should be",
        ),
        ("slug: clear-sessions, ", "slug: clear-sessions, paused: true, ", "paused: Extra"),
        ("pull: []", "pull: null", "pull must be []"),
        ("collision_strategy: CANCEL_NEW", "collision_strategy: DROP", "collision_strategy"),
        ("deployments:", "deployments: [", "is not a prefect.yaml"),
        ("deployments:", "nothing:", "is not a prefect.yaml"),
    ],
)
def test_a_file_that_cannot_be_applied(tmp_path: Path, was: str, becomes: str, said: str) -> None:
    text = PREFECT_FILE.read_text()
    assert was in text
    path = tmp_path / "prefect.yaml"
    path.write_text(text.replace(was, becomes))
    with pytest.raises(DeclarationError, match=r"prefect\.yaml") as caught:
        read_declared(path)
    assert said in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"absent\.yaml does not exist"):
        read_declared(tmp_path / "absent.yaml")
