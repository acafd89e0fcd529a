"""The preflight of the storage: read, written, and left as it was."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maintenance.checks.engine import ENGINE, engine_check
from maintenance.checks.finding import Finding, Severity, carry_out
from maintenance.checks.storage import BUCKETS, storage_checks
from maintenance.settings import Settings, load_settings
from tests.support.rights import without_root
from tests.support.stores import REGION, GcsPlace, S3Place, services
from tests.support.trees import entries, make_files


def settings_of(root: Path, **others: Any) -> Settings:
    return load_settings(DATABASE_URL="postgresql://x@127.0.0.1:1/z", STORAGE_ROOT=root, **others)


def found(settings: Settings) -> dict[str, Finding]:
    """The findings on the roots themselves, without those on rights (see test_check_rights.py).

    The database of these settings does not answer.
    """
    findings = {one.name: one for one in carry_out(storage_checks(settings))}
    markers = {name for name in findings if name.endswith(" marker")}
    assert {str(findings.pop(name).level) for name in markers} == {"warning"}
    return {name: one for name, one in findings.items() if not name.endswith(" rights")}


def levels(findings: dict[str, Finding]) -> dict[str, str]:
    return {name: str(one.level) for name, one in findings.items()}


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A storage root that every user of this machine can reach."""
    with tempfile.TemporaryDirectory(prefix="vm-") as name:
        root = Path(name)
        root.chmod(0o755)
        make_files(root, ["private/runs/a", "public/files/b"])
        yield root


def test_roots_that_can_be_used_are_ok_and_left_as_they_were(open_root: Path) -> None:
    before = entries(open_root)
    assert levels(found(settings_of(open_root))) == {
        "storage private": "ok",
        "storage public": "ok",
    }
    assert entries(open_root) == before


def test_every_root_has_a_line_on_rights(open_root: Path, tmp_path: Path) -> None:
    settings = settings_of(open_root, DATA_STORAGE_ROOT=tmp_path)
    names = {one.name for one in carry_out(storage_checks(settings))}
    assert {f"storage {root} rights" for root in ("private", "public", "bundles")} <= names


def test_a_file_system_without_nameless_files_is_left_as_it_was(
    open_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    before = entries(open_root)
    assert levels(found(settings_of(open_root))) == {
        "storage private": "ok",
        "storage public": "ok",
    }
    assert entries(open_root) == before


@pytest.mark.parametrize("nameless", [True, False])
def test_a_root_that_may_only_be_read_is_an_error(
    open_root: Path, nameless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    (open_root / "public").chmod(0o777)
    (open_root / "public" / "files").chmod(0o777)
    (open_root / "private").chmod(0o555)
    with without_root():
        findings = found(settings_of(open_root))
        user = os.geteuid()
    (open_root / "private").chmod(0o755)
    assert levels(findings) == {"storage private": "error", "storage public": "ok"}
    assert findings["storage private"].text == f"{open_root / 'private'}: Permission denied"
    assert f"user {user}" in findings["storage private"].action


def test_a_folder_below_a_root_that_may_not_be_changed_is_an_error(open_root: Path) -> None:
    for path in (open_root / "private", open_root / "public", open_root / "public/files"):
        path.chmod(0o777)
    (open_root / "private" / "runs").chmod(0o555)
    with without_root():
        findings = found(settings_of(open_root))
    (open_root / "private" / "runs").chmod(0o755)
    assert levels(findings) == {"storage private": "error", "storage public": "ok"}
    assert findings["storage private"].text.endswith("1 folders may not be changed: runs")


def test_a_missing_root_is_an_error_but_for_the_older_layout(tmp_path: Path) -> None:
    findings = found(settings_of(tmp_path, DATA_STORAGE_ROOT=tmp_path / "bundles"))
    assert levels(findings) == {
        "storage private": "error",
        "storage public": "ok",
        "storage bundles": "error",
    }
    assert "No such file or directory" in findings["storage bundles"].text


def test_buckets_are_listed_and_nothing_is_put_into_them(tmp_path: Path) -> None:
    with services() as (s3, gcs):
        place, runs = S3Place.make(s3), GcsPlace.make(gcs)
        on_s3 = {
            "DATA_STORAGE_BACKEND": "s3",
            "STORAGE_BUCKET": place.name,
            "AWS_S3_ENDPOINT_URL": s3.url,
            "AWS_S3_REGION_NAME": REGION,
        }
        on_gcs = {"DATA_STORAGE_BACKEND": "gcs", "GCS_VALIDATION_BUCKET": "absent-bucket"}
        (well,) = found(settings_of(tmp_path, **on_s3)).values()
        (absent,) = found(settings_of(tmp_path, **on_gcs, STORAGE_BUCKET=runs.name)).values()
        assert place.held() | runs.held() == set()
    assert (well.name, well.level) == (BUCKETS, Severity.OK)
    assert well.text == f"can be listed: {place.name}"
    assert absent.level is Severity.ERROR
    assert "absent-bucket" in absent.text
    assert "docs/buckets.md" in absent.action


@pytest.mark.parametrize(
    ("settings", "level", "words"),
    [
        ({}, Severity.OK, "not configured"),
        ({"DEPLOYMENT_TARGET": "self_hosted"}, Severity.ERROR, "cannot be reached"),
    ],
)
def test_an_engine_that_is_configured_must_answer(
    tmp_path: Path, settings: dict[str, str], level: Severity, words: str
) -> None:
    host = f"unix://{tmp_path}/engine.sock"
    (finding,) = carry_out([engine_check(settings_of(tmp_path, DOCKER_HOST=host, **settings))])
    assert (finding.name, finding.level) == (ENGINE, level)
    assert words in finding.text
