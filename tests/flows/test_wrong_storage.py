"""Nothing is stamped in a storage that is not the application's (SPEC 10.1).

Volumes are mounted for real, in a namespace of their own.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from flows.jobs import JOBS
from maintenance import schema
from maintenance import settings as settings_module
from maintenance.errors import StorageError
from maintenance.settings import Settings
from maintenance.storage.layout import open_stores
from maintenance.storage.marker import MARKER
from tests.support.hooks import STAMP, at_statement
from tests.support.markers import marker
from tests.support.mounts import printed_in_namespace
from tests.support.runs import run
from tests.support.validibot import NOW
from tests.support.wrong_storage import (
    ITEMS,
    PURGE_JOBS,
    Scene,
    add_stuck_runs,
    bare,
    make_scene,
)

STUCK = "cleanup-stuck-runs"

MOUNTED = """
job, volume, mount_point = sys.argv[1:]
bind(volume, mount_point)
print(json.dumps(attempt(job, as_of=NOW)))
"""

UNMOUNTED_IN_MID_RUN = """
job, volume, mount_point, statement = sys.argv[1:]
bind(volume, mount_point)
with at_statement(job, statement, lambda _: unmount(mount_point), before=True) as met:
    done = attempt(job, as_of=NOW)
print(json.dumps([len(met), done]))
"""

STAMPS = {
    "purge-expired-submissions": "UPDATE submissions_submission SET modified=",
    "process-purge-retries": "UPDATE submissions_submission SET modified=",
    "purge-expired-outputs": "UPDATE validations_validationrun SET modified=",
}


@pytest.fixture
def scene(
    environment: Settings, database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    return make_scene(database, tmp_path / "scene", monkeypatch)


@pytest.fixture
def older(
    environment: Settings, database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    """Run bundles are in the older layout."""
    return make_scene(database, tmp_path / "scene", monkeypatch, older=True)


def purge(job: str, **parameters: Any) -> Any:
    return run(JOBS[job].flow, **{"as_of": NOW, **parameters})


def assert_refused(scene: Scene, job: str, said: str) -> None:
    """The job fails with one error, as its dry run does, and stamps nothing."""
    for dry_run in (True, False):
        with pytest.raises(StorageError, match=said) as caught:
            purge(job, dry_run=dry_run)
        assert "\n" not in str(caught.value)
    assert scene.stamped() == 0


@pytest.mark.parametrize("job", PURGE_JOBS)
def test_a_volume_that_is_mounted_is_purged(scene: Scene, job: str) -> None:
    done = printed_in_namespace(MOUNTED, job, scene.volume, scene.mount_point)
    assert done["failed"] == 0
    assert done["files"] > 0
    assert scene.stamped() == done["done"] > 0
    assert scene.false_stamps() == set()


@pytest.mark.parametrize("left", ["", "one upload"])
@pytest.mark.parametrize("job", PURGE_JOBS)
def test_a_bare_mount_point_is_not_an_empty_storage(scene: Scene, job: str, left: str) -> None:
    bare(scene.mount_point, "private", "public")
    if left:
        first = next(iter(scene.app.rows(schema.submissions).values()))["input_file"]
        (scene.mount_point / "private" / "submissions").mkdir()
        (scene.mount_point / "private" / first).write_text("uploaded since")
    assert_refused(scene, job, r"/private has no marker .*0 of|/private has no marker .*1 of")
    assert not (scene.mount_point / "private" / MARKER).exists()


@pytest.mark.parametrize("job", PURGE_JOBS)
def test_a_volume_that_is_unmounted_in_mid_run_is_noticed(scene: Scene, job: str) -> None:
    bare(scene.mount_point, "private", "public")
    met, done = printed_in_namespace(
        UNMOUNTED_IN_MID_RUN, job, scene.volume, scene.mount_point, STAMPS[job]
    )
    assert met == 1
    assert done["error"].startswith("StorageError: storage root ")
    assert "is another directory than when this run began" in done["error"]
    assert scene.stamped() == 0


def test_a_marker_in_the_bare_mount_point_does_not_help(scene: Scene) -> None:
    """A storage that was adopted by mistake while the volume was away is another directory."""
    bare(scene.mount_point, "private", "public")
    (scene.mount_point / "private" / MARKER).write_bytes(marker("private", "private", "public"))
    (scene.mount_point / "public" / MARKER).write_bytes(marker("public"))
    job = "purge-expired-outputs"
    _, done = printed_in_namespace(
        UNMOUNTED_IN_MID_RUN, job, scene.volume, scene.mount_point, STAMPS[job]
    )
    assert "is another directory than when this run began" in done["error"]
    assert scene.false_stamps() == set()


@pytest.mark.parametrize("job", ["purge-expired-submissions", "purge-expired-outputs"])
@pytest.mark.parametrize("known", [True, False])
def test_a_public_root_that_is_not_mounted_is_not_absent(
    older: Scene, job: str, known: bool
) -> None:
    """Whether it was adopted before, or rows name bundles that are nowhere else."""
    (older.volume / "public").rename(older.volume.parent / "public volume")
    older.mount_point.rmdir()
    older.mount_point.symlink_to(older.volume)
    if not known:
        (older.volume / "private" / MARKER).unlink()
    said = "/public is missing, and was there" if known else "/public is absent: 0 of"
    assert_refused(older, job, said)


@pytest.mark.parametrize("job", ["purge-expired-submissions", "purge-expired-outputs"])
def test_a_bare_public_root_is_not_an_empty_one(older: Scene, job: str) -> None:
    (older.volume / "public").rename(older.volume.parent / "public volume")
    (older.volume / "public").mkdir()
    older.mount_point.rmdir()
    older.mount_point.symlink_to(older.volume)
    assert_refused(older, job, r"/public has no marker .*: 0 of \d+ run bundles found")


@pytest.mark.parametrize("job", ["purge-expired-submissions", "purge-expired-outputs"])
def test_a_public_root_that_is_a_link_to_an_unmounted_volume_is_not_absent(
    older: Scene, job: str
) -> None:
    (older.volume / "public").rename(older.volume.parent / "public volume")
    (older.volume / "public").symlink_to(older.volume.parent / "unmounted" / "public")
    older.mount_point.rmdir()
    older.mount_point.symlink_to(older.volume)
    assert_refused(older, job, "/public: is a symbolic link that leads nowhere")


@pytest.mark.parametrize("job", ["purge-expired-submissions", "purge-expired-outputs"])
def test_an_empty_folder_is_no_bundle_root(
    scene: Scene, job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.mount_point.rmdir()
    scene.mount_point.symlink_to(scene.volume)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("DATA_STORAGE_ROOT", str(tmp_path / "empty"))
    settings_module.settings.cache_clear()
    assert_refused(scene, job, r"/empty has no marker .*: 0 of \d+ run bundles found")


def test_a_bundle_root_that_the_settings_no_longer_name_is_missed(
    scene: Scene, database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bundles would be looked for below private/, and all of them be absent."""
    scene.mount_point.rmdir()
    scene.mount_point.symlink_to(scene.volume)
    bundles = tmp_path / "bundles"
    bundles.mkdir()
    (scene.volume / "private" / "runs").rename(bundles / "runs")
    monkeypatch.setenv("DATA_STORAGE_ROOT", str(bundles))
    settings_module.settings.cache_clear()
    with open_stores(settings_module.settings(), database):
        assert (bundles / MARKER).is_file()
    monkeypatch.delenv("DATA_STORAGE_ROOT")
    settings_module.settings.cache_clear()
    assert_refused(scene, "purge-expired-outputs", "bundles root, which the settings do not name")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (marker("private", "private", "public", application="0" * 64), "to another application"),
        (marker("public"), "is the public root of this application"),
        (b"{}", "to another application"),
        (b"", "to another application"),
    ],
)
@pytest.mark.parametrize("job", PURGE_JOBS)
def test_a_root_with_another_marker_is_not_ours(
    scene: Scene, job: str, content: bytes, said: str
) -> None:
    scene.mount_point.rmdir()
    scene.mount_point.symlink_to(scene.volume)
    (scene.volume / "private" / MARKER).write_bytes(content)
    assert_refused(scene, job, said)


def test_a_marker_that_goes_in_mid_run_ends_the_run(scene: Scene) -> None:
    scene.mount_point.rmdir()
    scene.mount_point.symlink_to(scene.volume)

    def remove(_: object) -> None:
        (scene.volume / "public" / MARKER).unlink()

    job = "purge-expired-submissions"
    with (
        at_statement(job, STAMP, remove, before=True) as met,
        pytest.raises(StorageError, match="/public has no marker"),
    ):
        purge(job)
    assert met
    assert scene.stamped() == 0


def evidence_of(scene: Scene) -> dict[str, Any]:
    return scene.app.rows(schema.evidence)


def test_no_evidence_is_written_into_a_bare_folder(scene: Scene) -> None:
    bare(scene.mount_point, "private", "public")
    stuck = add_stuck_runs(scene.app)
    report = purge(STUCK)
    assert {one.item for one in report.failures} <= {f"run {run_id}" for run_id in stuck}
    assert (report.done, report.failed) == (0, ITEMS)
    assert all("/private has no marker" in one.cause for one in report.failures)
    assert evidence_of(scene) == {}
    assert list((scene.mount_point / "private").iterdir()) == []
    done = printed_in_namespace(MOUNTED, STUCK, scene.volume, scene.mount_point)
    assert (done["done"], done["failed"]) == (ITEMS, 0)
    rows = evidence_of(scene).values()
    assert {row["availability"] for row in rows} == {"GENERATED"}
    assert all((scene.volume / "private" / row["manifest_path"]).is_file() for row in rows)


def test_no_evidence_is_promised_when_the_volume_is_unmounted_in_mid_run(scene: Scene) -> None:
    """At the first statement that reads what a manifest is made of."""
    bare(scene.mount_point, "private", "public")
    add_stuck_runs(scene.app)
    met, done = printed_in_namespace(
        UNMOUNTED_IN_MID_RUN, STUCK, scene.volume, scene.mount_point, "workflows_workflowstep"
    )
    assert (met, done["done"], done["failed"]) == (1, 0, ITEMS)
    assert evidence_of(scene) == {}
    assert [path for path in (scene.mount_point / "private").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("job", PURGE_JOBS)
def test_a_read_only_root_is_one_error_and_not_one_of_each_item(scene: Scene, job: str) -> None:
    code = """
job, volume, mount_point = sys.argv[1:]
bind(volume, mount_point)
subprocess.run(["mount", "-o", "remount,bind,ro", mount_point], check=True)
print(json.dumps(attempt(job, as_of=NOW)))
"""
    done = printed_in_namespace(code, job, scene.volume, scene.mount_point)
    assert done["error"].startswith("StorageError: the storage cannot be used: ")
    assert done["error"].endswith("Read-only file system")
    assert scene.stamped() == 0
    attempts = [row["attempt_count"] for row in scene.app.rows(schema.purge_retries).values()]
    assert set(attempts) == {0}


def test_a_full_volume_is_one_error_for_evidence(scene: Scene) -> None:
    code = """
job, volume, mount_point = sys.argv[1:]
mount("none", mount_point, "-t", "tmpfs", "-o", "size=64k")
subprocess.run(["cp", "-r", volume + "/private", volume + "/public", mount_point], check=True)
subprocess.run(f"cat /dev/zero > {mount_point}/private/full", shell=True)
print(json.dumps(attempt(job, as_of=NOW)))
"""
    add_stuck_runs(scene.app)
    for path in (scene.volume / "private").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    done = printed_in_namespace(code, STUCK, scene.volume, scene.mount_point)
    assert (done["done"], done["failed"]) == (0, ITEMS)
    assert {"No space left on device" in one["cause"] for one in done["failures"]} == {True}
    assert evidence_of(scene) == {}
