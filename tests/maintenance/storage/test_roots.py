"""The roots of the storage: which ones must be there, and which one the settings lead to."""

from pathlib import Path

import pytest

from maintenance.errors import StorageError
from maintenance.settings import load_settings
from maintenance.storage.layout import BUNDLE, OLDER_BUNDLE, open_stores
from maintenance.storage.local import LocalStore
from maintenance.storage.store import ABSENT, Tree
from tests.support.trees import entries, make_files


def test_a_missing_root_is_an_error_and_never_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"storage root .*/absent: No such file or directory"):
        LocalStore(tmp_path / "absent")


@pytest.mark.parametrize("required", [True, False])
def test_a_file_in_the_place_of_a_root_is_an_error(tmp_path: Path, required: bool) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="Not a directory"):
        LocalStore(tmp_path / "file", required=required)


def test_a_root_that_is_not_required_may_be_absent(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "absent", required=False)
    assert store.remove_files(["a/b", "../x"])[0] == ABSENT
    assert store.remove_files(["../x"])[0].error is not None
    assert store.remove_trees([Tree("a/b")]) == [ABSENT]
    store.close()
    assert not (tmp_path / "absent").exists()


def test_a_root_may_be_a_link_of_the_operators(tmp_path: Path) -> None:
    make_files(tmp_path, ["root/up/a.json"])
    (tmp_path / "mounted").symlink_to(tmp_path / "root")
    store = LocalStore(tmp_path / "mounted")
    assert store.remove_files(["up/a.json"])[0].files == 1
    store.close()
    assert entries(tmp_path / "root") == {"up/"}


def test_stores_of_the_settings_reach_both_layouts(tmp_path: Path) -> None:
    make_files(tmp_path, ["storage/private/p/a", "storage/public/q/b", "bundles/r/c"])
    current = load_settings(
        DATABASE_URL="postgresql://x@y/z",
        STORAGE_ROOT=tmp_path / "storage",
        DATA_STORAGE_ROOT=tmp_path / "bundles",
    )
    with open_stores(current) as stores:
        (current_store, current_layout), (older_store, older_layout) = stores.bundles
        assert (current_layout, older_layout) == (BUNDLE, OLDER_BUNDLE)
        assert stores.private.remove_files(["p/a"])[0].files == 1
        assert current_store.remove_files(["r/c"])[0].files == 1
        assert older_store.remove_files(["q/b"])[0].files == 1
    assert entries(tmp_path) == {
        "storage/",
        "storage/private/",
        "storage/private/p/",
        "storage/public/",
        "storage/public/q/",
        "bundles/",
        "bundles/r/",
    }


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
    tmp_path: Path, present: set[str], allowed: bool
) -> None:
    make_files(tmp_path, {f"{path}/" for path in present})
    current = load_settings(
        DATABASE_URL="postgresql://x@y/z",
        STORAGE_ROOT=tmp_path / "storage",
        DATA_STORAGE_ROOT=tmp_path / "bundles",
    )
    if allowed:
        with open_stores(current) as stores:
            assert stores.private.remove_files(["a/b"]) == [ABSENT]
    else:
        with pytest.raises(StorageError, match="Is the volume mounted"), open_stores(current):
            pytest.fail("opened")
