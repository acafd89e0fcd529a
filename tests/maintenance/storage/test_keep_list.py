"""What of a run's bundle stays when its submission is purged (the copied inputs go)."""

from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from maintenance.storage.layout import (
    BUNDLE,
    OLDER_BUNDLE,
    Bundle,
    copied_inputs,
    keep_outputs,
    whole_bundle,
)
from maintenance.storage.local import LocalStore
from maintenance.storage.store import ABSENT, Tree
from tests.support.memory import temporary_folder
from tests.support.trees import entries, files, make_files, state

RUN = UUID("aaaaaaaa-0000-4000-8000-000000000001")
KNOWN = "bbbbbbbb-0000-4000-8000-000000000002"
OTHER = "bbbbbbbb-0000-4000-8000-000000000003"
UNKNOWN = "cccccccc-0000-4000-8000-000000000004"
BUNDLE_OF_RUN = Bundle(7, RUN, frozenset({KNOWN, OTHER}))

KEPT = {
    "output.json",
    "output/result.json",
    "output/deep/er/result.json",
    "output/input/a.json",
    "outputs/a.json",
    "outputs/attempts/b.json",
    f"attempts/{KNOWN}/output.json",
    f"attempts/{KNOWN}/output/a.json",
    f"attempts/{KNOWN}/output/deep/input/a.json",
    f"attempts/{KNOWN}/outputs/a.json",
    f"attempts/{OTHER}/output/a.json",
}

GONE = {
    "input.json",
    "input/a.json",
    "inputs/output/a.json",
    "input/output.json",
    "Output.json",
    "output.json.bak",
    "output.jsonl",
    ".output.json",
    "output2/a.json",
    "outputs2/a.json",
    "outputs.zip",
    "OUTPUT/a.json",
    "attempts/output.json",
    "attempts/output/a.json",
    "attempts/outputs/a.json",
    f"attempts/{KNOWN}/input.json",
    f"attempts/{KNOWN}/input/a.json",
    f"attempts/{KNOWN}/input/output/a.json",
    f"attempts/{KNOWN}/input/output.json",
    f"attempts/{KNOWN}/output.json.bak",
    f"attempts/{KNOWN}/outputs2/a.json",
    f"attempts/{KNOWN}/attempts/{KNOWN}/output/a.json",
    f"attempts/{UNKNOWN}/output.json",
    f"attempts/{UNKNOWN}/output/a.json",
    f"attempts/{UNKNOWN}/outputs/a.json",
    f"attempts/{KNOWN.upper()}/output/a.json",
    f"attempts/{KNOWN}2/output/a.json",
    f"attempt/{KNOWN}/output/a.json",
    f"{KNOWN}/output/a.json",
    f"attempts2/{KNOWN}/output/a.json",
}


def kept_by_its_path(path: str, attempts: frozenset[str]) -> bool:
    """The rule once more, on the text of a path alone."""
    starts = ["", *(f"attempts/{attempt}/" for attempt in attempts)]
    return any(
        path == f"{start}output.json" or path.startswith((f"{start}output/", f"{start}outputs/"))
        for start in starts
    )


@pytest.mark.parametrize("template", [BUNDLE, OLDER_BUNDLE])
def test_outputs_stay_and_everything_else_goes(
    store: LocalStore, root: Path, template: str
) -> None:
    tree = copied_inputs(template, BUNDLE_OF_RUN)
    make_files(root, {f"{tree.prefix}/{path}" for path in KEPT | GONE})
    (outcome,) = store.remove_trees([tree])
    assert files(root) == {f"{tree.prefix}/{path}" for path in KEPT}
    assert outcome.error is None
    assert outcome.files == len(GONE)
    assert outcome.bytes == sum(len(f"{tree.prefix}/{path}") for path in GONE)
    assert store.remove_trees([tree]) == [ABSENT]


def test_the_rule_on_paths_agrees_about_every_near_miss() -> None:
    attempts = BUNDLE_OF_RUN.attempt_ids
    assert {path for path in KEPT | GONE if kept_by_its_path(path, attempts)} == KEPT


def test_a_bundle_of_inputs_alone_goes_with_its_directories(store: LocalStore, root: Path) -> None:
    tree = copied_inputs(BUNDLE, BUNDLE_OF_RUN)
    make_files(root, {f"{tree.prefix}/{path}" for path in GONE})
    assert store.remove_trees([tree])[0].files == len(GONE)
    assert entries(root) == {"runs/"}


def test_a_directory_named_output_json_goes(store: LocalStore, root: Path) -> None:
    make_files(root, ["runs/1/2/output.json/a", f"runs/1/2/attempts/{KNOWN}/output.json/b"])
    tree = Tree("runs/1/2", keep_outputs(frozenset({KNOWN})))
    assert store.remove_trees([tree])[0].files == 2
    assert entries(root) == {"runs/"}


def test_a_file_named_output_goes(store: LocalStore, root: Path) -> None:
    make_files(root, ["runs/1/2/output", f"runs/1/2/attempts/{KNOWN}/outputs"])
    tree = Tree("runs/1/2", keep_outputs(frozenset({KNOWN})))
    assert store.remove_trees([tree])[0].files == 2
    assert entries(root) == {"runs/"}


def test_a_link_named_output_goes_as_a_link(store: LocalStore, root: Path, tmp_path: Path) -> None:
    make_files(tmp_path, ["outside/a.json"])
    make_files(root, ["runs/1/2/output.json"])
    (root / "runs/1/2/output").symlink_to(tmp_path / "outside")
    before = state(tmp_path / "outside")
    tree = Tree("runs/1/2", keep_outputs(frozenset()))
    assert store.remove_trees([tree])[0].files == 1
    assert files(root) == {"runs/1/2/output.json"}
    assert state(tmp_path / "outside") == before


def test_without_known_attempts_only_the_outputs_at_the_top_stay(
    store: LocalStore, root: Path
) -> None:
    bundle = Bundle(7, RUN, frozenset())
    tree = copied_inputs(BUNDLE, bundle)
    make_files(root, {f"{tree.prefix}/{path}" for path in KEPT})
    store.remove_trees([tree])
    assert files(root) == {
        f"{tree.prefix}/{path}" for path in KEPT if not path.startswith("attempts/")
    }


def test_an_empty_attempt_id_keeps_nothing(store: LocalStore, root: Path) -> None:
    make_files(root, ["runs/1/2/attempts/output/a", "runs/1/2/attempts/x/output/a"])
    store.remove_trees([Tree("runs/1/2", keep_outputs(frozenset({""})))])
    assert entries(root) == {"runs/"}


def test_other_runs_and_organizations_stay(store: LocalStore, root: Path) -> None:
    mine = f"runs/7/{RUN}"
    others = {f"runs/7/{KNOWN}/input/a", f"runs/8/{RUN}/input/a", f"runs/7/{RUN}x/a", "runs/7/a"}
    make_files(root, {f"{mine}/input/a", f"{mine}/output/a"} | others)
    store.remove_trees([copied_inputs(BUNDLE, BUNDLE_OF_RUN)])
    assert files(root) == {f"{mine}/output/a"} | others
    store.remove_trees([whole_bundle(BUNDLE, BUNDLE_OF_RUN)])
    assert files(root) == others


def test_the_whole_bundle_goes_with_its_outputs_and_the_organizations_directory(
    store: LocalStore, root: Path
) -> None:
    tree = whole_bundle(OLDER_BUNDLE, BUNDLE_OF_RUN)
    make_files(root, {f"{tree.prefix}/{path}" for path in KEPT | GONE})
    assert store.remove_trees([tree])[0].files == len(KEPT | GONE)
    assert entries(root) == {"files/"}


NAMES = st.sampled_from(
    ["attempts", "output", "outputs", "output.json", "input", KNOWN, UNKNOWN, "é 1", "outputs2"]
)
PATHS = st.lists(st.lists(NAMES, min_size=1, max_size=5).map("/".join), max_size=20)


@profile(max_examples=150, deadline=None, derandomize=True)
@given(paths=PATHS, attempts=st.frozensets(st.sampled_from([KNOWN, UNKNOWN])))
def test_of_any_tree_exactly_the_outputs_remain(paths: list[str], attempts: frozenset[str]) -> None:
    """A path that runs through another one's file is left out: it cannot exist beside it."""
    wanted = {path for path in paths if not any(path.startswith(f"{other}/") for other in paths)}
    wanted -= {path for path in wanted if any(o.startswith(f"{path}/") for o in wanted)}
    tree = Tree("runs/7/8", keep_outputs(attempts))
    with temporary_folder() as folder:
        root = Path(folder)
        make_files(root, {f"runs/7/8/{path}" for path in wanted} | {"runs/7/9/stays"})
        store = LocalStore(root)
        before = state(root)
        (measured,) = store.measure_trees([tree])
        assert state(root) == before
        (removed,) = store.remove_trees([tree])
        store.close()
        kept = {path for path in wanted if kept_by_its_path(path, attempts)}
        assert files(root) == {f"runs/7/8/{path}" for path in kept} | {"runs/7/9/stays"}
        assert removed == measured
        assert (removed.files, removed.error) == (len(wanted - kept), None)
        # No directory stays that holds nothing.
        folders = {entry for entry in entries(root) if entry.endswith("/")}
        assert folders == {
            entry for entry in folders if any(f.startswith(entry) for f in files(root))
        }
