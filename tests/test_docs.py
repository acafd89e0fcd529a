"""Documents that cannot lie: what they say is compared with the code."""

import re
from pathlib import Path

from deployments.settings import DeploymentSettings
from flows.jobs import JOBS
from maintenance.env_file import ENV_FILE
from maintenance.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text()


def test_the_readme_lists_every_job_with_its_schedule() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)/default` \| [^`|]*`([^`]+)` \|", README, re.MULTILINE))
    assert rows == {name: job.schedule for name, job in JOBS.items()}


def test_the_commands_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = set(re.findall(r"make ([a-z-]+)", README))
    assert {"demo", "test"} <= used <= targets
    for job in re.findall(r"python -m flows ([a-z][a-z-]+)", README):
        assert job in JOBS
    for job in re.findall(r"prefect deployment run ([a-z-]+)/default", README):
        assert job in JOBS


def variables() -> dict[str, object]:
    """Every variable that the settings read, with its default."""
    found: dict[str, object] = {ENV_FILE: None}
    for field in (*Settings.model_fields.values(), *DeploymentSettings.model_fields.values()):
        alias = field.validation_alias
        assert alias is not None
        name = alias if isinstance(alias, str) else str(getattr(alias, "choices")[0])  # noqa: B009
        found[name] = field.default
    return found


def test_the_guide_names_every_setting_and_no_other() -> None:
    named = set(re.findall(r"`([A-Z][A-Z0-9_]{5,}[A-Z0-9])`", SETTINGS))
    known = set(variables())
    ours = {name for name in named if name.startswith("MAINTENANCE_")}
    assert {name for name in known if name.startswith("MAINTENANCE_")} == ours
    assert known <= named | {"DEPLOYMENT_TARGET"}


def test_the_guide_tells_the_defaults_of_the_numbers() -> None:
    rows = dict(re.findall(r"^\| `(MAINTENANCE_[A-Z_]+)` \| ([\d.]+) \|", SETTINGS, re.MULTILINE))
    expected = {
        name: default
        for name, default in variables().items()
        if isinstance(default, (int, float)) and not isinstance(default, bool)
        if name.startswith("MAINTENANCE_")
    }
    assert {name: float(value) for name, value in rows.items()} == expected


NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_promise_names_a_test_that_exists() -> None:
    rows = re.findall(r"^\| (?!promise|---).*\|$", RELIABILITY, re.MULTILINE)
    assert len(rows) > 40
    named = [NAMED_TEST.findall(row.rpartition(" | ")[2]) for row in rows]
    assert [row for row, tests in zip(rows, named, strict=True) if not tests] == []
    for file, test in {one for tests in named for one in tests}:
        assert f"\ndef {test}(" in (ROOT / file).read_text(), f"{file}::{test}"
