"""Deleting files by their keys."""

import os
from pathlib import Path

import pytest

from maintenance.storage.local import LocalStore
from maintenance.storage.store import ABSENT, Deletion, Tree
from tests.support.trees import entries, make_files, state


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    make_files(path, ["a.json", "sub/b.json"])
    return path


def test_a_file_is_deleted_and_counted_with_its_bytes(store: LocalStore, root: Path) -> None:
    make_files(root, ["up/a.json", "up/b.json"])
    assert store.remove_files(["up/a.json"]) == [Deletion(files=1, bytes=len("up/a.json"))]
    assert entries(root) == {"up/", "up/b.json"}


def test_deleting_what_is_absent_is_success(store: LocalStore, root: Path) -> None:
    make_files(root, ["up/a.json", "file"])
    keys = ["up/absent", "absent/deep/down", "absent", "file/below-a-file"]
    assert store.remove_files(keys) == [ABSENT] * 4
    assert store.measure_files(keys) == [ABSENT] * 4
    assert entries(root) == {"up/", "up/a.json", "file"}


def test_deleting_twice_is_success(store: LocalStore, root: Path) -> None:
    make_files(root, ["up/a.json"])
    assert [one.files for one in store.remove_files(["up/a.json", "up/a.json"])] == [1, 0]
    assert store.remove_files(["up/a.json"]) == [ABSENT]


def test_outcomes_come_in_the_order_of_the_keys(store: LocalStore, root: Path) -> None:
    make_files(root, ["a/1", "b/22", "a/333", "top"])
    outcomes = store.remove_files(["b/22", "a/333", "../x", "top", "a/1", "a/none"])
    assert [one.bytes for one in outcomes] == [4, 5, 0, 3, 3, 0]
    assert [one.error is None for one in outcomes] == [True, True, False, True, True, True]
    assert entries(root) == {"a/", "b/"}


def test_no_keys_are_no_work(store: LocalStore) -> None:
    assert store.remove_files([]) == []
    assert store.remove_trees([]) == []


@pytest.mark.parametrize(
    "key", ["../outside/a.json", "up/../../outside/a.json", "", "..", "x\0y", "..\\outside", "."]
)
def test_a_key_that_could_leave_the_root_is_refused_and_the_others_go_on(
    store: LocalStore, root: Path, outside: Path, key: str
) -> None:
    make_files(root, ["up/a.json"])
    before = state(outside)
    refused, done = store.remove_files([key, "up/a.json"])
    assert refused.error is not None
    assert refused.error.startswith("refused: ")
    assert done == Deletion(files=1, bytes=9)
    assert store.remove_trees([Tree(key)])[0].error == refused.error
    assert state(outside) == before


def test_an_absolute_key_is_refused(store: LocalStore, outside: Path) -> None:
    before = state(outside)
    for outcome in (
        *store.remove_files([str(outside / "a.json")]),
        *store.remove_trees([Tree(str(outside))]),
    ):
        assert outcome.error is not None
        assert "is absolute" in outcome.error
    assert state(outside) == before


def test_an_evidence_manifest_is_refused(store: LocalStore, root: Path) -> None:
    make_files(root, ["evidence/1/2/manifest.json"])
    before = state(root)
    for act in (store.remove_files, store.measure_files):
        (outcome,) = act(["evidence/1/2/manifest.json"])
        assert outcome.error is not None
        assert "never deleted" in outcome.error
    assert state(root) == before


@pytest.mark.parametrize("depth", ["link", "up/link", "up/deep/link"])
def test_a_linked_directory_on_the_way_is_refused_and_its_target_untouched(
    store: LocalStore, root: Path, outside: Path, depth: str
) -> None:
    make_files(root, ["up/deep/a.json", "up/other.json"])
    (root / depth).symlink_to(outside, target_is_directory=True)
    before = state(outside)
    keys = [f"{depth}/a.json", f"{depth}/sub/b.json", "up/other.json"]
    outcomes = store.remove_files(keys)
    assert [one.error for one in outcomes] == [
        f"refused: {depth!r} is a symbolic link on the way to a file",
        f"refused: {depth!r} is a symbolic link on the way to a file",
        None,
    ]
    assert store.remove_trees([Tree(f"{depth}/sub")])[0].error == outcomes[0].error
    assert state(outside) == before
    assert f"{depth}@" in entries(root)


def test_a_link_in_the_place_of_a_file_goes_as_a_link(
    store: LocalStore, root: Path, outside: Path
) -> None:
    make_files(root, ["up/a.json"])
    for name, target in {
        "file": outside / "a.json",
        "folder": outside,
        "dangling": outside / "absent",
        "loop": root / "up" / "loop",
    }.items():
        (root / "up" / name).symlink_to(target)
    before = state(outside)
    keys = [f"up/{name}" for name in ("file", "folder", "dangling", "loop")]
    assert store.remove_files(keys) == [Deletion(files=1)] * 4
    assert state(outside) == before
    assert entries(root) == {"up/", "up/a.json"}


def test_another_name_of_a_file_stays(store: LocalStore, root: Path, outside: Path) -> None:
    (root / "up").mkdir()
    os.link(outside / "a.json", root / "up" / "a.json")
    assert store.remove_files(["up/a.json"]) == [Deletion(files=1, bytes=6)]
    assert (outside / "a.json").read_text() == "a.json"


def test_a_directory_in_the_place_of_a_file_is_a_failure(store: LocalStore, root: Path) -> None:
    make_files(root, ["up/folder/a.json", "up/b.json"])
    wrong, right = store.remove_files(["up/folder", "up/b.json"])
    assert wrong == Deletion(error="up/folder: is a directory where a file was expected")
    assert right.error is None
    assert entries(root) == {"up/", "up/folder/", "up/folder/a.json"}


def test_a_name_that_is_too_long_is_a_failure_of_its_own(store: LocalStore, root: Path) -> None:
    make_files(root, ["up/a.json"])
    outcomes = store.remove_files([f"up/{'x' * 300}", f"{'x' * 300}/a", "up/a.json"])
    assert [one.error is None for one in outcomes] == [False, False, True]
    assert all("File name too long" in str(one.error) for one in outcomes[:2])


def test_names_of_any_script_are_found(store: LocalStore, root: Path) -> None:
    keys = ["übung/日本 1.json", "up/a\nb", "up/-rf", "up/*", "emoji/🗑️.bin"]
    make_files(root, keys)
    make_files(root, ["up/other"])
    outcomes = store.remove_files(keys)
    assert [one.bytes for one in outcomes] == [len(key.encode()) for key in keys]
    assert entries(root) == {"übung/", "emoji/", "up/", "up/other"}


def test_directories_that_became_empty_go_but_for_the_first_level(
    store: LocalStore, root: Path
) -> None:
    make_files(root, ["up/2026/11/15/a.json", "up/2026/10/b.json", "other/", "up/2025/"])
    store.remove_files(["up/2026/11/15/a.json"])
    assert entries(root) == {
        "up/",
        "up/2025/",
        "up/2026/",
        "up/2026/10/",
        "up/2026/10/b.json",
        "other/",
    }
    store.remove_files(["up/2026/10/b.json"])
    assert entries(root) == {"up/", "up/2025/", "other/"}


def test_a_directory_with_another_entry_stays(store: LocalStore, root: Path) -> None:
    make_files(root, ["up/11/a.json", "up/11/folder/", "up/12/a.json", "up/13/a.json"])
    (root / "up/12/link").symlink_to("nowhere")
    store.remove_files(["up/11/a.json", "up/12/a.json", "up/13/a.json"])
    assert entries(root) == {"up/", "up/11/", "up/11/folder/", "up/12/", "up/12/link@"}


def test_a_file_directly_below_the_root_leaves_the_root(store: LocalStore, root: Path) -> None:
    make_files(root, ["a.json"])
    assert store.remove_files(["a.json"]) == [Deletion(files=1, bytes=6)]
    assert root.is_dir()
    assert entries(root) == set()


def test_measuring_says_what_removing_does_and_changes_nothing(
    store: LocalStore, root: Path, outside: Path
) -> None:
    make_files(root, ["up/a.json", "up/folder/b.json", "evidence/x", "up/deep/er/c.json"])
    for name in ("link", "way"):
        (root / "up" / name).symlink_to(outside)
    keys = ["up/a.json", "up/folder", "up/way/a.json", "up/link", "up/none", "evidence/x", "../x"]
    keys.append("up/deep/er/c.json")
    before = state(root)
    measured = store.measure_files(keys)
    assert state(root) == before
    assert store.remove_files(keys) == measured
    assert {one.files for one in measured} == {0, 1}


def test_no_descriptor_stays_open(root: Path) -> None:
    make_files(root, ["up/a.json", "up/t/1/2/3", "up/folder/x"])
    (root / "up/link").symlink_to("/")
    before = set(Path("/dev/fd").iterdir())
    store = LocalStore(root)
    store.remove_files(["up/a.json", "up/folder", "up/link/x", "none/x", "../x"])
    store.remove_trees([Tree("up/t"), Tree("none"), Tree("up/link")])
    store.close()
    store.close()
    assert set(Path("/dev/fd").iterdir()) <= before
