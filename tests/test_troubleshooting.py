"""Each line that `check` may print, and each heading of the replaced page, has a section."""

import re
from pathlib import Path

import pytest

from deployments.monitoring.preflight import deployment_checks
from maintenance.checks.beat import beat_check
from maintenance.checks.database import database_check
from maintenance.checks.engine import engine_check
from maintenance.checks.restore import restore_check
from maintenance.checks.storage import storage_checks
from maintenance.cli import SETTINGS, STORAGE
from maintenance.settings import Settings

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
REPLACED = (ROOT / "docs" / "reference" / "replaced-set-up.md").read_text()
LINES = PAGE[PAGE.index("\n## Lines of check\n") :]
ADDRESS = "postgresql://role@host/name"
BUCKETS = {"DATA_STORAGE_BACKEND": "gcs", "STORAGE_BUCKET": "one", "GCS_VALIDATION_BUCKET": "two"}
ADVICE = ("**Means:**", "**Look:**", "**Do:**")
OF_THE_REPLACED_PAGE = (
    *("Tasks not running", "tasks running multiple times"),
    *("tasks taking too long", "worker not processing tasks"),
    *("Disabling tasks", "Health checks", "Logs", "Redis persistence", "Single Beat instance"),
    "Manual task execution",
)
"""Headings of the second order at which something goes wrong."""


def names() -> set[str]:
    """The name of every line, with settings under which each check is made."""
    found = {SETTINGS, STORAGE}
    for more in ({"DATA_STORAGE_ROOT": "/bundles"}, BUCKETS):
        settings = Settings.model_validate({"DATABASE_URL": ADDRESS, **more})
        checks = (
            database_check(settings),
            beat_check(settings),
            *storage_checks(settings),
            restore_check(settings),
            engine_check(settings),
            *deployment_checks(),
        )
        found |= {name for check in checks for name in check.names}
    return {"JOB/default" if name.endswith("/default") else name for name in found}


def sections(text: str) -> dict[str, str]:
    """The text below each heading of the third order."""
    parts = re.split(r"^### (.+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_line_of_check_has_a_section_and_no_section_is_of_another() -> None:
    found = [name for heading in sections(LINES) for name in re.findall(r"`([^`]+)`", heading)]
    assert len(found) == len(set(found))
    assert set(found) == names()


@pytest.mark.parametrize("heading", sections(LINES))
def test_a_section_says_what_it_means_where_to_look_and_what_to_do(heading: str) -> None:
    text = sections(LINES)[heading].replace("**Look and do:**", "**Look:** **Do:**")
    assert [one for one in ADVICE if one not in text] == []


def test_every_heading_of_the_replaced_set_up_has_a_section() -> None:
    headings = set(re.findall(r"^#{2,4} (.+)$", PAGE, re.MULTILINE))
    wanted = set(re.findall(r"^## (.+)$", REPLACED, re.MULTILINE)) - {"Troubleshooting"}
    assert len(wanted) >= 7
    assert wanted - headings == set()
    text = "\n".join(headings)
    assert [one for one in OF_THE_REPLACED_PAGE if one not in text] == []
