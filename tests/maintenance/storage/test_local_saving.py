"""What a store of local files promises about files that are saved."""

import errno
import os
import re
import resource
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maintenance.storage.local import LocalStore
from maintenance.storage.store import Saved
from tests.support.rights import printed_without_root
from tests.support.trees import entries

KEY = "evidence/1/aaaa/manifest.json"
CONTENT = b'{"a":1}'
NEAR = re.compile(r"evidence/1/aaaa/manifest_[a-z0-9]{7}\.json")

SAVING = """
keys = ["open/a", "closed/a", "closed/below/a", "hidden/a"]
print(json.dumps([[one.key, one.error] for one in store.save_files([(key, b"x") for key in keys])]))
"""


def test_a_local_file_can_be_read_by_the_application_whatever_the_umask(
    store: LocalStore, root: Path
) -> None:
    before = os.umask(0o077)
    try:
        store.save_files([(KEY, CONTENT)])
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / KEY).stat().st_mode) == 0o644


@pytest.mark.parametrize("taken", ["directory", "link to these bytes", "dangling link", "pipe"])
def test_whatever_has_the_name_stays(store: LocalStore, root: Path, taken: str) -> None:
    path = root / KEY
    path.parent.mkdir(parents=True)
    outside = root.parent / "outside"
    if taken == "directory":
        path.mkdir()
    elif taken == "pipe":
        os.mkfifo(path)
    else:
        if taken == "link to these bytes":
            outside.write_bytes(CONTENT)
        path.symlink_to(outside)
    before = entries(root.parent)
    (saved,) = store.save_files([(KEY, CONTENT)])
    assert NEAR.fullmatch(saved.key)
    assert entries(root.parent) - before == {f"root/{saved.key}"}


def test_no_directory_is_reached_through_a_link(store: LocalStore, root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (root / "evidence").symlink_to(outside)
    (saved,) = store.save_files([(KEY, CONTENT)])
    assert saved == Saved(error="refused: 'evidence' is a symbolic link on the way to a file")
    assert list(outside.iterdir()) == []


def test_a_file_in_the_place_of_a_directory_fails_its_files_only(
    store: LocalStore, root: Path
) -> None:
    blocked = root / "evidence" / "1"
    blocked.parent.mkdir()
    blocked.write_text("x")
    bad, good = store.save_files([(KEY, CONTENT), ("evidence/2/b/manifest.json", CONTENT)])
    assert bad == Saved(error=f"{KEY}: Not a directory")
    assert good == Saved("evidence/2/b/manifest.json")


def test_when_the_disk_is_full_nothing_stays_under_the_name(store: LocalStore, root: Path) -> None:
    """A limit on the size of files stands for the full disk: the write fails half way."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        bad, good = store.save_files([(KEY, b"x" * 2_000), ("evidence/1/b/manifest.json", b"y")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert bad == Saved(error=f"{KEY}: {os.strerror(errno.EFBIG)}")
    assert good == Saved("evidence/1/b/manifest.json")
    held = {path for path in entries(root) if not path.endswith("/")}
    assert held == {"evidence/1/b/manifest.json"}
    assert store.save_files([(KEY, b"x" * 2_000)]) == [Saved(KEY)]


def test_a_directory_that_may_not_be_written_fails_its_files(root: Path) -> None:
    for name, mode in (("open", 0o777), ("closed", 0o555), ("hidden", 0o700)):
        (root / name).mkdir(parents=True)
        (root / name).chmod(mode)
    hidden = root / "hidden" / "a"
    hidden.write_bytes(CONTENT)
    denied = os.strerror(errno.EACCES)
    assert printed_without_root(root, SAVING) == [
        ["open/a", None],
        ["", f"closed/a: {denied}"],
        ["", f"closed/below/a: {denied}"],
        ["", f"hidden/a: {denied}"],
    ]


def test_what_a_crash_left_under_a_temporary_name_goes(store: LocalStore, root: Path) -> None:
    folder = root / "evidence" / "1" / "aaaa"
    folder.mkdir(parents=True)
    (folder / ".manifest.json.part-01234567").write_bytes(CONTENT[:3])
    (folder / ".other.json.part-01234567").write_bytes(CONTENT[:3])
    assert store.save_files([(KEY, CONTENT)]) == [Saved(KEY)]
    assert {path.name for path in folder.iterdir()} == {
        "manifest.json",
        ".other.json.part-01234567",
    }


def test_a_file_is_synced_before_it_has_its_name_and_its_directories_after(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[tuple[str, str]] = []

    def logged(name: str, real: Callable[..., None], describe: Callable[..., str]) -> None:
        def call(*args: object, **options: object) -> None:
            log.append((name, describe(*args)))
            real(*args, **options)

        monkeypatch.setattr(os, name, call)

    def path(descriptor: int) -> str:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(root))

    logged("fsync", os.fsync, lambda descriptor: re.sub(r"part-\w+", "part", path(descriptor)))
    logged("link", os.link, lambda _temporary, name: name)
    store.save_files([(KEY, CONTENT)])
    folder = KEY.rpartition("/")[0]
    assert log[:3] == [
        ("fsync", f"{folder}/.manifest.json.part"),
        ("link", "manifest.json"),
        ("fsync", folder),
    ]
    assert set(log[3:]) == {("fsync", "."), ("fsync", "evidence"), ("fsync", "evidence/1")}
    log.clear()
    store.save_files([(KEY, CONTENT)])  # It may have been left there unsynced.
    assert {what for name, what in log if name == "fsync"} == {
        *(".", "evidence", "evidence/1", folder, KEY)
    }
    assert all(name == "fsync" for name, _ in log)


def test_a_directory_that_cannot_be_synced_fails_what_is_below_it(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync
    broken = root / "evidence" / "1"

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    bad, good = store.save_files([(KEY, CONTENT), ("evidence/2/b/manifest.json", CONTENT)])
    assert bad == Saved(error="evidence/1: Input/output error")
    assert good == Saved("evidence/2/b/manifest.json")


def test_two_stores_that_save_the_same_files_at_once_agree(root: Path) -> None:
    files = [(f"evidence/1/{number}/manifest.json", b"%d" % number) for number in range(200)]

    def save(_number: int) -> list[Saved]:
        store = LocalStore(root)
        try:
            return store.save_files(files)
        finally:
            store.close()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(save, range(4)))
    for outcomes in found:
        # A store may remove the temporary file of another one, which then fails and is retried.
        assert {one.key for one in outcomes if one.error is None} <= {key for key, _ in files}
    assert save(0) == [Saved(key) for key, _ in files]
    assert {path for path in entries(root) if not path.endswith("/")} == {key for key, _ in files}
    assert all((root / key).read_bytes() == data for key, data in files)
