"""File systems that cannot do something, or do not answer: what is tolerated, and what not."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from maintenance.errors import StorageError
from maintenance.storage.local import LocalStore
from maintenance.storage.marker import MARKER
from maintenance.storage.store import Deletion, Saved, Tree
from tests.support.trees import entries, make_files

MANIFEST = "evidence/1/a/manifest.json"


def failing_fsync(patch: pytest.MonkeyPatch, code: int, *, files: bool = False) -> None:
    """Have the file system refuse to sync directories (or files) with this error."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir() is not files:
            raise OSError(code, os.strerror(code))
        real(descriptor)

    patch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_directories_is_tolerated(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    make_files(root, ["up/a", "runs/1/2/b"])
    failing_fsync(monkeypatch, code)
    assert store.remove_files(["up/a"]) == [Deletion(1, 4)]
    assert store.remove_trees([Tree("runs/1/2")]) == [Deletion(1, 10)]
    assert store.save_files([(MANIFEST, b"{}")]) == [Saved(MANIFEST)]
    store.write_marker(b"{}")
    assert store.read_marker() == b"{}"


def test_a_directory_that_cannot_be_written_to_the_disk_is_a_failure(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_files(root, ["up/a", "runs/1/2/b"])
    failing_fsync(monkeypatch, errno.EIO)
    assert store.remove_files(["up/a"])[0].error == "up: Input/output error"
    assert store.remove_trees([Tree("runs/1/2")])[0].error == "runs: Input/output error"
    assert store.save_files([(MANIFEST, b"{}")])[0].error == f"{MANIFEST}: Input/output error"
    with pytest.raises(StorageError, match="cannot be written: Input/output error"):
        store.write_marker(b"{}")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_file_that_cannot_be_synced_is_always_a_failure(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    failing_fsync(monkeypatch, code, files=True)
    assert store.save_files([(MANIFEST, b"{}")])[0].error is not None
    with pytest.raises(StorageError, match="cannot be written"):
        store.write_marker(b"{}")
    assert {path for path in entries(root) if not path.endswith("/")} == set()
    assert not (root / MARKER).exists()


def on_stat(patch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what has every look at a name end with an error, as a stale handle does."""

    def fail(code: int) -> None:
        def stat(*_: object, **__: object) -> os.stat_result:
            raise OSError(code, os.strerror(code))

        patch.setattr(os, "stat", stat)

    return fail


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.EACCES])
def test_what_cannot_be_looked_at_is_not_absent(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    make_files(root, ["up/a"])
    on_stat(monkeypatch)(code)
    assert store.remove_files(["up/a"]) == [Deletion(error=f"up/a: {os.strerror(code)}")]
    with pytest.raises(StorageError, match=f"cannot be read: up/a: {os.strerror(code)}"):
        store.exist(["up/a"])
    monkeypatch.undo()
    assert entries(root) == {"up/", "up/a"}


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.ENOTCONN])
def test_a_directory_that_cannot_be_opened_is_not_absent(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Also the root: then it is one error for all."""
    make_files(root, ["up/a", "runs/1/2/b"])
    real = os.open

    def stale(path: object, *rest: object, **options: object) -> int:
        if path in ("up", "runs", root):
            raise OSError(code, os.strerror(code))
        return real(path, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", stale)
    if code == errno.ENOTCONN:
        with pytest.raises(StorageError, match="the storage cannot be used: up: "):
            store.remove_files(["up/a"])
    else:
        assert store.remove_files(["up/a"])[0].error == f"up: {os.strerror(code)}"
        assert store.remove_trees([Tree("runs/1/2")])[0].error is not None
    with pytest.raises(StorageError, match=f"storage root {root}: "):
        store.read_marker()
    with pytest.raises(StorageError, match=f"storage root {root}: "):
        LocalStore(root, required=False)
