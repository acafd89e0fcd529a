"""Deleting whole bundles, also when something is wrong with them."""

import os
import threading
from pathlib import Path

import pytest

from maintenance.storage.local import LocalStore
from maintenance.storage.store import ABSENT, Deletion, Tree
from maintenance.storage.walk import MAX_DEPTH
from tests.support.rights import printed_without_root
from tests.support.trees import entries, files, make_files, state

DELETING = """
keys = ["locked/a", "open/b", "hidden/c", "hidden/none"]
trees = [Tree("locked"), Tree("t/1"), Tree("t/2"), Tree("t/3")]
outcomes = [*store.remove_files(keys), *store.remove_trees(trees)]
print(json.dumps([[one.files, one.error] for one in outcomes]))
"""


def test_an_absent_bundle_is_success(store: LocalStore, root: Path) -> None:
    make_files(root, ["runs/1/other/a", "file"])
    trees = [Tree("runs/1/absent"), Tree("runs/2/absent"), Tree("none/1/2"), Tree("file/1/2")]
    assert store.remove_trees(trees) == [ABSENT] * 4
    assert entries(root) == {"runs/", "runs/1/", "runs/1/other/", "runs/1/other/a", "file"}


def test_a_bundle_goes_with_everything_in_it_and_its_sibling_stays(
    store: LocalStore, root: Path
) -> None:
    mine = {"a", "b/c", "b/d/e", ".hidden", "empty/", "b/empty/"}
    make_files(root, {f"runs/1/2/{path}" for path in mine} | {"runs/1/22/a"})
    assert store.remove_trees([Tree("runs/1/2")]) == [Deletion(4, 10 + 12 + 14 + 16)]
    assert entries(root) == {"runs/", "runs/1/", "runs/1/22/", "runs/1/22/a"}


def test_an_empty_bundle_goes_too(store: LocalStore, root: Path) -> None:
    make_files(root, ["runs/1/2/empty/"])
    assert store.remove_trees([Tree("runs/1/2")]) == [ABSENT]
    assert entries(root) == {"runs/"}


def test_links_inside_a_bundle_go_as_links(store: LocalStore, root: Path, tmp_path: Path) -> None:
    make_files(tmp_path, ["outside/a", "outside/sub/b"])
    make_files(root, ["runs/1/2/a"])
    targets: dict[str, str | Path] = {
        "folder": tmp_path / "outside",
        "file": tmp_path / "outside/a",
        "dangling": tmp_path / "none",
        "upwards": "..",
        "itself": "itself",
    }
    for name, target in targets.items():
        (root / "runs/1/2" / name).symlink_to(target)
    before = state(tmp_path / "outside")
    assert store.measure_trees([Tree("runs/1/2")]) == [Deletion(6, len("runs/1/2/a"))]
    assert store.remove_trees([Tree("runs/1/2")]) == [Deletion(6, len("runs/1/2/a"))]
    assert state(tmp_path / "outside") == before
    assert entries(root) == {"runs/"}


def test_a_bundle_that_is_a_link_goes_as_a_link(
    store: LocalStore, root: Path, tmp_path: Path
) -> None:
    make_files(tmp_path, ["outside/a"])
    make_files(root, ["runs/1/"])
    (root / "runs/1/2").symlink_to(tmp_path / "outside")
    before = state(tmp_path / "outside")
    assert store.measure_trees([Tree("runs/1/2")]) == [Deletion(1)]
    assert store.remove_trees([Tree("runs/1/2")]) == [Deletion(1)]
    assert state(tmp_path / "outside") == before
    assert entries(root) == {"runs/"}


def test_a_file_in_the_place_of_a_bundle_is_a_failure(store: LocalStore, root: Path) -> None:
    make_files(root, ["runs/1/2", "runs/1/3/a"])
    failure = Deletion(error="runs/1/2: is a file where a directory was expected")
    trees = [Tree("runs/1/2"), Tree("runs/1/3")]
    done = Deletion(1, len("runs/1/3/a"))
    assert store.measure_trees(trees) == [failure, done]
    assert store.remove_trees(trees) == [failure, done]
    assert entries(root) == {"runs/", "runs/1/", "runs/1/2"}


def test_pipes_and_sockets_go_without_being_opened(store: LocalStore, root: Path) -> None:
    make_files(root, ["runs/1/2/a", "up/b"])
    os.mkfifo(root / "runs/1/2/pipe")
    os.mkfifo(root / "up/pipe")
    assert store.remove_trees([Tree("runs/1/2")]) == [Deletion(2, len("runs/1/2/a"))]
    assert store.remove_files(["up/pipe"]) == [Deletion(1)]
    assert entries(root) == {"runs/", "up/", "up/b"}


def test_two_roots_do_not_mix(root: Path, tmp_path: Path) -> None:
    make_files(root, ["runs/1/2/a"])
    make_files(tmp_path / "second", ["runs/1/2/b", "runs/1/3/c"])
    first, second = LocalStore(root), LocalStore(tmp_path / "second")
    assert second.remove_trees([Tree("runs/1/2")])[0].files == 1
    assert (files(root), files(tmp_path / "second")) == ({"runs/1/2/a"}, {"runs/1/3/c"})
    assert first.remove_trees([Tree("runs/1/2")])[0].files == 1
    assert (files(root), files(tmp_path / "second")) == (set(), {"runs/1/3/c"})
    first.close()
    second.close()


def nest(root: Path, depth: int) -> None:
    """Directories one in the other with a file in the last, deeper than one path could name."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("deepest", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)


def test_a_tree_nested_too_deeply_is_refused_and_the_others_go_on(
    store: LocalStore, root: Path
) -> None:
    make_files(root, ["runs/1/deep/a", "runs/1/flat/b"])
    nest(root / "runs/1/deep", 300)
    trees = [Tree("runs/1/deep"), Tree("runs/1/flat")]
    for act in (store.measure_trees, store.remove_trees):
        deep, flat = act(trees)
        assert deep.error is not None
        assert deep.error.startswith("runs/1/deep/d/d/")
        assert deep.error.endswith(f"/d: nested deeper than {MAX_DEPTH} directories")
        assert flat.error is None
    assert "runs/1/flat/" not in entries(root)
    assert "runs/1/deep/d/" in entries(root)


@pytest.mark.parametrize(("depth", "refused"), [(MAX_DEPTH, False), (MAX_DEPTH + 1, True)])
def test_the_limit_of_nesting(store: LocalStore, root: Path, depth: int, refused: bool) -> None:
    make_files(root, ["runs/1/2/"])
    nest(root / "runs/1/2", depth)
    (outcome,) = store.remove_trees([Tree("runs/1/2")])
    assert (outcome.error is not None) == refused
    assert (entries(root) == {"runs/"}) != refused


def test_measuring_says_what_removing_does_and_changes_nothing(
    store: LocalStore, root: Path
) -> None:
    make_files(root, ["runs/1/2/a", "runs/1/2/b/c", "runs/1/3", "runs/1/4/keep/x", "runs/1/4/y"])
    (root / "runs/1/2/b/link").symlink_to("/")

    def keep(parts: tuple[str, ...], is_directory: bool) -> bool:
        return parts == ("keep",)

    trees = [Tree(f"runs/1/{n}", keep) for n in (2, 3, 4, 5)] + [Tree("../x")]
    before = state(root)
    measured = store.measure_trees(trees)
    assert state(root) == before
    assert store.remove_trees(trees) == measured
    assert [one.files for one in measured] == [3, 0, 1, 0, 0]
    assert entries(root) == {
        "runs/", "runs/1/", "runs/1/3", "runs/1/4/", "runs/1/4/keep/", "runs/1/4/keep/x"
    }  # fmt: skip


def test_a_directory_without_rights_fails_for_its_own_keys_only(root: Path) -> None:
    make_files(root, ["locked/a", "open/b", "hidden/c", "t/1/x", "t/2/sub/x", "t/2/y", "t/3/x"])
    closed = {"locked": 0o555, "hidden": 0o000, "t/1": 0o555, "t/2/sub": 0o555}
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        folder.chmod(0o777)
    for name, mode in closed.items():
        (root / name).chmod(mode)
    try:
        printed = printed_without_root(root, DELETING)
    finally:
        for name in closed:
            (root / name).chmod(0o777)
    assert printed == [
        [0, "locked/a: Permission denied"],
        [1, None],
        [0, "hidden: Permission denied"],
        [0, "hidden: Permission denied"],
        [0, "locked/a: Permission denied"],
        [0, "t/1/x: Permission denied"],
        [1, "t/2/sub/x: Permission denied"],
        [1, None],
    ]
    assert files(root) == {"locked/a", "hidden/c", "t/1/x", "t/2/sub/x"}


def test_another_writer_ends_the_deletion_cleanly(store: LocalStore, root: Path) -> None:
    make_files(root, [f"runs/1/2/{number}" for number in range(200)])
    written = {f"runs/1/2/{number}" for number in range(200)}
    stop = threading.Event()

    def write() -> None:
        number = 200
        while not stop.is_set():
            path = f"runs/1/2/sub{number % 7}/{number}"
            try:
                make_files(root, [path])
            except (FileNotFoundError, FileExistsError):
                continue  # Its directory was just removed, perhaps while it was being made.
            written.add(path)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    first = store.remove_trees([Tree("runs/1/2")])[0]
    stop.set()
    writer.join()
    left = files(root)
    assert first.error in (None, "runs/1/2: another process keeps writing into it")
    assert left < written
    second = store.remove_trees([Tree("runs/1/2")])[0]
    assert (second.files, second.error) == (len(left), None)
    assert first.files + second.files == len(written)
    assert entries(root) == {"runs/"}


def test_entries_that_appear_meanwhile_go_too(store: LocalStore, root: Path) -> None:
    make_files(root, ["runs/1/2/a/x"])
    late = iter(["runs/1/2/late", "runs/1/2/a/later"])

    def keep(parts: tuple[str, ...], is_directory: bool) -> bool:
        make_files(root, [path] if (path := next(late, None)) else [])
        return False

    (outcome,) = store.remove_trees([Tree("runs/1/2", keep)])
    assert outcome == Deletion(3, len("runs/1/2/a/x" + "runs/1/2/late" + "runs/1/2/a/later"))
    assert entries(root) == {"runs/"}


def test_a_directory_swapped_for_a_link_meanwhile_leads_nowhere(
    store: LocalStore, root: Path, tmp_path: Path
) -> None:
    """Work goes on in the directory that was opened; what stands in its place is not followed."""
    make_files(tmp_path, ["outside/2/a", "outside/3/a"])
    make_files(root, ["runs/1/2/a", "runs/1/3/a", "runs/5/6/a"])
    before = state(tmp_path / "outside")

    def swap(parts: tuple[str, ...], is_directory: bool) -> bool:
        if not (root / "moved").exists():
            (root / "runs/1").rename(root / "moved")
            (root / "runs/1").symlink_to(tmp_path / "outside")
        return False

    trees = [Tree("runs/1/2", swap), Tree("runs/1/3", swap), Tree("runs/5/6")]
    first, second, third = store.remove_trees(trees)
    assert state(tmp_path / "outside") == before
    refused = "refused: 'runs/1' is a symbolic link on the way to a file"
    assert (first.error, second.error, third.error) == (refused, refused, None)
    assert entries(root) == {"runs/", "runs/1@", "moved/"}


def test_a_name_that_is_no_text_is_reported_as_text(store: LocalStore, root: Path) -> None:
    """A cause goes into the database, which takes UTF-8 only."""
    make_files(root, ["up/"])
    try:
        Path(os.fsdecode(os.fsencode(root) + b"/up/bad-\xff")).mkdir()
    except OSError:
        pytest.skip("this file system takes text only")
    (outcome,) = store.remove_files([os.fsdecode(b"up/bad-\xff")])
    assert outcome.error == "up/bad-\\xff: is a directory where a file was expected"
