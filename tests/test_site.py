"""The documentation builds as a site without a warning, and loads nothing from other hosts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.settings import DeploymentSettings
from flows.jobs import JOBS
from maintenance.settings import Settings
from website.job_page import job_pages
from website.markdown import with_deep_lists
from website.repository_files import place, with_links
from website.settings_table import PAGE, described, with_table

ROOT = Path(__file__).parents[1]
OTHER_HOST = re.compile(r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^>]*>")


def build(folder: Path) -> tuple[int, str]:
    """Build the site strictly; return the exit status and what was said."""
    options = ["--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", *options],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "built"
    status, said = build(folder)
    assert (status, "WARNING" in said) == (0, False), said
    return folder


@pytest.mark.slow
def test_it_has_a_page_for_each_document_and_each_job(site: Path) -> None:
    documents = (ROOT / "docs").rglob("*.md")
    wanted = {str(one.relative_to(ROOT / "docs").with_suffix(".html")) for one in documents}
    wanted |= {f"jobs/{name}.html" for name in JOBS} | {"contributing.html", "changelog.html"}
    built = {str(one.relative_to(site)) for one in site.rglob("*.html")}
    assert built - {"404.html"} == wanted
    for job in JOBS:
        assert f'href="jobs/{job}.html"' in (site / "jobs.html").read_text()


@pytest.mark.slow
def test_it_has_the_files_that_pages_lead_to(site: Path) -> None:
    copied = site / "repository" / "compose.yaml"
    assert copied.read_text() == (ROOT / "compose.yaml").read_text()
    assert 'href="repository/compose.yaml"' in (site / "installation.html").read_text()
    assert (site / "database-role.sql").exists()


@pytest.mark.slow
def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert OTHER_HOST.findall(page.read_text()) == [], page
    styles = [one.read_text() for one in site.rglob("*.css")]
    assert styles
    assert [one for one in styles if re.search(r"url\([\"']?(?:https?:)?//", one)] == []


def test_a_jobs_page_has_its_manual_its_schedule_and_every_parameter() -> None:
    pages = job_pages()
    assert pages.keys() == {f"jobs/{name}.md" for name in JOBS}
    for name, job in JOBS.items():
        page = pages[f"jobs/{name}.md"]
        assert f"`{job.schedule}`" in page
        assert (job.flow.fn.__doc__ or "").split("\n\n")[0].strip() in page
        for parameter in job.flow.parameters.properties:
            assert f"| `{parameter}` |" in page
    assert "integer from 1 to 50,000" in pages["jobs/purge-expired-outputs.md"]
    assert "`--no-dry-run`" in pages["jobs/reclaim-residue.md"]


def test_the_table_of_settings_is_what_the_classes_say() -> None:
    page = PAGE.read_text()
    assert with_table(page) == page, "run: make docs"
    for settings in (Settings, DeploymentSettings):
        for name, meaning in described(settings).items():
            assert meaning in page, name


def test_a_page_without_the_markers_of_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no line"):
        with_table("# Settings\n")


@pytest.mark.parametrize(
    ("text", "deep"),
    [
        (
            "1. One:\n\n   ```\n   code\n   ```\n\n2. Two",
            "1. One:\n\n    ```\n    code\n    ```\n\n2. Two",
        ),
        ("* one\n  goes on\n* two", "* one\n  goes on\n* two"),
        ("* one:\n\n  text\n\nafter\n  it", "* one:\n\n    text\n\nafter\n  it"),
        ("1. one:\n   * two\n\ntext", "1. one:\n    * two\n\ntext"),
        ("```\n1. no list\n\n   as it is\n```", "```\n1. no list\n\n   as it is\n```"),
    ],
)
def test_blocks_within_items_are_indented_by_four_columns(text: str, deep: str) -> None:
    assert with_deep_lists(text) == deep


def test_links_out_of_the_folder_lead_to_what_the_site_has() -> None:
    text = "[a](../compose.yaml) [b](../CONTRIBUTING.md#tests) [c](other.md) [d](../docs)"
    assert with_links(text, "docs/page.md", "page.md") == (
        "[a](repository/compose.yaml) [b](contributing.md#tests) [c](other.md) [d](../docs)"
    )
    assert place("tests") is None
