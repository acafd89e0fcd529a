"""The roots of the storage: which ones must be there, and which ones the settings lead to."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from maintenance.errors import StorageError
from maintenance.settings import load_settings
from maintenance.storage.local import LocalStore
from maintenance.storage.marker import MARKER
from maintenance.storage.permit import ALWAYS
from maintenance.storage.roots import (
    BUNDLE,
    BUNDLES,
    OLDER_BUNDLE,
    PRIVATE,
    PUBLIC,
    Root,
    open_roots,
)
from maintenance.storage.store import ABSENT, Tree
from tests.support.rights import printed_without_root
from tests.support.trees import entries, make_files

OPENING = """
try:
    LocalStore(Path("closed"))
except Exception as error:
    print(json.dumps(f"{type(error).__name__}: {error}"))
"""


def test_a_missing_root_is_an_error_and_never_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"storage root .*/absent: No such file or directory"):
        LocalStore(tmp_path / "absent")


@pytest.mark.parametrize("required", [True, False])
def test_a_file_in_the_place_of_a_root_is_an_error(tmp_path: Path, required: bool) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="Not a directory"):
        LocalStore(tmp_path / "file", required=required)


@pytest.mark.parametrize("required", [True, False])
def test_a_link_that_leads_nowhere_is_never_an_absent_root(tmp_path: Path, required: bool) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "volume" / "public")
    with pytest.raises(StorageError, match="is a symbolic link that leads nowhere"):
        LocalStore(tmp_path / "link", required=required)


def test_a_root_that_may_not_be_searched_is_one_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_files(tmp_path, ["closed/up/a"])
    (tmp_path / "closed").chmod(0o744)
    said = printed_without_root(tmp_path, OPENING)
    assert said.startswith("StorageError: storage root closed: Permission denied")


def test_a_root_that_is_not_required_may_be_absent(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "absent", required=False)
    assert store.absent
    assert store.remove_files(["a/b", "../x"])[0] == ABSENT
    assert store.remove_files(["../x"])[0].error is not None
    assert store.remove_trees([Tree("a/b")]) == [ABSENT]
    assert store.read_marker() is None
    with pytest.raises(StorageError, match="is missing"):
        store.write_marker(b"{}")
    store.close()
    assert not (tmp_path / "absent").exists()


def test_a_root_that_appears_after_it_was_absent_is_an_error(tmp_path: Path) -> None:
    """Its files were not deleted, so nothing may be stamped."""
    store = LocalStore(tmp_path / "late", required=False)
    (tmp_path / "late").mkdir()
    with pytest.raises(StorageError, match="was absent when this run began, and is there now"):
        store.read_marker()
    store.close()


def test_a_root_may_be_a_link_of_the_operators(tmp_path: Path) -> None:
    make_files(tmp_path, ["root/up/a.json"])
    (tmp_path / "mounted").symlink_to(tmp_path / "root")
    store = LocalStore(tmp_path / "mounted")
    assert store.remove_files(["up/a.json"])[0].files == 1
    store.close()
    assert entries(tmp_path / "root") == {"up/"}


def replaced(root: Path, elsewhere: Path) -> None:
    root.rename(elsewhere)
    root.mkdir()
    (root / MARKER).write_bytes((elsewhere / MARKER).read_bytes())


def linked(root: Path, elsewhere: Path) -> None:
    replaced(root, elsewhere)
    root.rename(root.with_name("copy"))
    root.symlink_to(root.with_name("copy"))


def removed(root: Path, elsewhere: Path) -> None:
    root.rename(elsewhere)


def dangling(root: Path, elsewhere: Path) -> None:
    root.rename(elsewhere)
    root.symlink_to("volume")


@pytest.mark.parametrize("change", [replaced, linked, removed, dangling])
def test_a_path_that_leads_elsewhere_meanwhile_is_an_error(
    store: LocalStore, root: Path, tmp_path: Path, change: Callable[[Path, Path], None]
) -> None:
    store.write_marker(b"{}")
    assert store.read_marker() == b"{}"
    change(root, tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=f"storage root {root}: "):
        store.read_marker()


def test_a_marker_is_written_as_a_whole_and_replaced(store: LocalStore, root: Path) -> None:
    store.write_marker(b"first")
    store.write_marker(b"second")
    assert store.read_marker() == b"second"
    assert [path.name for path in root.iterdir()] == [MARKER]
    assert (root / MARKER).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("kind", ["directory", "link", "pipe", "large"])
def test_what_is_no_file_of_ours_has_no_content(store: LocalStore, root: Path, kind: str) -> None:
    path = root / MARKER
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        path.write_bytes(b" " * 5_000)
    else:
        path.symlink_to("elsewhere")
        with pytest.raises(StorageError, match=MARKER):
            store.read_marker()
        return
    assert store.read_marker() == b""


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def open_local(root: Path, opened: ExitStack, bundles: Path | None = None) -> list[Root]:
    others = {"DATA_STORAGE_ROOT": bundles} if bundles else {}
    current = load_settings(DATABASE_URL="postgresql://x@y/z", STORAGE_ROOT=root, **others)
    return open_roots(current, opened)


def layouts(roots: list[Root]) -> dict[str, tuple[str, ...]]:
    return {root.name: root.bundles for root in roots}


def test_the_settings_lead_to_a_bundle_root_of_its_own(tmp_path: Path, opened: ExitStack) -> None:
    make_files(tmp_path, ["storage/private/p/a", "storage/public/q/b", "bundles/r/c"])
    roots = open_local(tmp_path / "storage", opened, tmp_path / "bundles")
    assert layouts(roots) == {PRIVATE: (), PUBLIC: (OLDER_BUNDLE,), BUNDLES: (BUNDLE,)}
    for root, key in zip(roots, ("p/a", "q/b", "r/c"), strict=True):
        assert root.store.remove_files([key], ALWAYS)[0].files == 1


@pytest.mark.parametrize("way", ["unset", "equal", "by a link"])
def test_a_bundle_root_that_is_the_private_one_is_no_other(
    tmp_path: Path, opened: ExitStack, way: str
) -> None:
    make_files(tmp_path, ["private/", "public/"])
    (tmp_path / "link").symlink_to("private")
    given = {"unset": None, "equal": tmp_path / "private", "by a link": tmp_path / "link"}
    roots = open_local(tmp_path, opened, given[way])
    assert layouts(roots) == {PRIVATE: (BUNDLE,), PUBLIC: (OLDER_BUNDLE,)}


def test_a_bundle_root_may_be_the_public_one(tmp_path: Path, opened: ExitStack) -> None:
    make_files(tmp_path, ["private/", "public/"])
    roots = open_local(tmp_path, opened, tmp_path / "public")
    assert layouts(roots) == {PRIVATE: (), PUBLIC: (BUNDLE, OLDER_BUNDLE)}


@pytest.mark.parametrize(
    ("present", "allowed"),
    [
        ({"storage/private", "storage/public", "bundles"}, True),
        ({"storage/private", "bundles"}, True),
        ({"storage/public", "bundles"}, False),
        ({"storage/private", "storage/public"}, False),
        (set(), False),
    ],
)
def test_only_the_older_layouts_root_may_be_missing(
    tmp_path: Path, opened: ExitStack, present: set[str], allowed: bool
) -> None:
    make_files(tmp_path, {f"{path}/" for path in present})
    if allowed:
        roots = open_local(tmp_path / "storage", opened, tmp_path / "bundles")
        absent = {root.name for root in roots if root.store.absent}
        assert absent == {PUBLIC} - {Path(path).name for path in present}
    else:
        with pytest.raises(StorageError, match="Is the volume mounted"):
            open_local(tmp_path / "storage", opened, tmp_path / "bundles")
