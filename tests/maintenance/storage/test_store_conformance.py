"""What every store promises, claimed about each: local files, S3, Google Cloud Storage.

The buckets are a plain and a versioned one of each service, behind their real clients.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from maintenance.storage import bucket_inventory
from maintenance.storage.layout import BUNDLE, Bundle, copied_inputs, whole_bundle
from maintenance.storage.permit import ALWAYS
from maintenance.storage.store import ABSENT, Deletion, Newest, Store, Tree
from tests.support.gcs_server import GcsServer
from tests.support.s3_server import S3Server
from tests.support.stores import (
    BUCKETS,
    BucketPlace,
    GcsPlace,
    LocalPlace,
    Place,
    S3Place,
    make_place,
)

RUN = UUID("aaaaaaaa-0000-4000-8000-000000000001")
KNOWN = "bbbbbbbb-0000-4000-8000-000000000002"
UNKNOWN = "cccccccc-0000-4000-8000-000000000004"
BUNDLE_OF_RUN = Bundle(7, RUN, frozenset({KNOWN}))

KEPT = {
    "output.json",
    "output/result.json",
    "output/input/a.json",
    "outputs/deep/er/a.json",
    f"attempts/{KNOWN}/output.json",
    f"attempts/{KNOWN}/output/a.json",
    f"attempts/{KNOWN}/outputs/a.json",
}
GONE = {
    "input.json",
    "input/a.json",
    "input/output.json",
    "output.json.bak",
    "Output.json",
    "outputs2/a.json",
    "outputs.zip",
    "attempts/output.json",
    f"attempts/{KNOWN}/input/a.json",
    f"attempts/{KNOWN}/input/output/a.json",
    f"attempts/{KNOWN}/output.json.bak",
    f"attempts/{UNKNOWN}/output/a.json",
    f"attempts/{KNOWN.upper()}/output/a.json",
}


@pytest.fixture(params=["local", *BUCKETS])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, servers: tuple[S3Server, GcsServer]
) -> Place:
    return make_place(request.param, tmp_path, servers)


@pytest.fixture
def opened(place: Place) -> Iterator[Callable[..., Store]]:
    stores = []

    def open_store(prefix: str = "", **options: int) -> Store:
        stores.append(place.open(prefix, **options))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[..., Store]) -> Store:
    return opened("private/")


def put(place: Place, *keys: str) -> None:
    for key in keys:
        place.put(f"private/{key}")


def test_a_file_is_deleted_and_counted_with_its_bytes(place: Place, store: Store) -> None:
    put(place, "up/a.json", "up/b.json")
    assert store.remove_files(["up/a.json"], ALWAYS) == [Deletion(1, len("private/up/a.json"))]
    assert place.held() == {"private/up/b.json"}


def test_deleting_what_is_absent_is_success(place: Place, store: Store) -> None:
    put(place, "up/a.json")
    keys = ["up/absent", "absent/deep/down", "up/a.json/below-a-file"]
    assert store.remove_files(keys, ALWAYS) == [ABSENT] * 3
    assert store.remove_trees([Tree("runs/absent"), Tree("up/a")], ALWAYS) == [ABSENT] * 2
    assert place.held() == {"private/up/a.json"}


def test_deleting_twice_is_success(place: Place, store: Store) -> None:
    put(place, "up/a.json")
    assert [one.files for one in store.remove_files(["up/a.json", "up/./a.json"], ALWAYS)] == [1, 0]
    assert store.remove_files(["up/a.json"], ALWAYS) == [ABSENT]


def test_keys_that_begin_like_the_one_that_is_deleted_stay(place: Place, store: Store) -> None:
    near = {f"up/a{number}" for number in range(25)} | {"up/a.json.bak", "up/a.json/x", "up/A.json"}
    near -= {"up/a.json/x"} if isinstance(place, LocalPlace) else set()
    put(place, "up/a.json", "up/a", *near)
    assert [one.files for one in store.remove_files(["up/a.json", "up/a"], ALWAYS)] == [1, 1]
    assert place.held() == {f"private/{key}" for key in near}


def test_outcomes_come_in_the_order_of_the_keys(place: Place, store: Store) -> None:
    put(place, "a/1", "b/22", "a/333", "top")
    outcomes = store.remove_files(["b/22", "a/333", "../x", "top", "a/1", "a/none"], ALWAYS)
    assert [one.bytes and one.bytes - len("private/") for one in outcomes] == [4, 5, 0, 3, 3, 0]
    assert [one.error is None for one in outcomes] == [True, True, False, True, True, True]
    assert place.held() == set()


def test_no_keys_are_no_work(store: Store) -> None:
    assert store.remove_files([], ALWAYS) == store.measure_trees([]) == []


def test_keys_that_could_leave_the_root_are_refused_and_the_others_go_on(
    place: Place, store: Store
) -> None:
    put(place, "up/a.json", "runs/1/2/a")
    place.put("public/a")
    wrong = ["../public/a", "up/../../public/a", "/public/a", "", "x\0y", ".", "..\\public\\a"]
    *refused, done = store.remove_files([*wrong, "up/a.json"], ALWAYS)
    assert all((one.error or "").startswith("refused: ") for one in refused)
    assert done.files == 1
    assert store.measure_files(wrong) == refused
    *refused_trees, done = store.remove_trees([*map(Tree, wrong), Tree("runs/1/2")], ALWAYS)
    assert (refused_trees, done.files) == (refused, 1)
    assert place.held() == {"public/a"}


def test_an_evidence_manifest_is_refused(place: Place, store: Store) -> None:
    put(place, "evidence/1/2/manifest.json")
    for act in (partial(store.remove_files, permit=ALWAYS), store.measure_files):
        (outcome,) = act(["evidence/1/2/manifest.json"])
        assert "never deleted" in (outcome.error or "")
    assert place.held() == {"private/evidence/1/2/manifest.json"}


def test_odd_names_are_deleted_like_others(place: Place, store: Store) -> None:
    names = ["é ü", "a+b c%20d", "100%", "#x?y=z&w", "日本", "a'b\"c", "<&>", "a\ttab"]
    put(place, *(f"up/{name}" for name in names), *(f"runs/1/{name}/{name}" for name in names))
    put(place, "up/other")
    gone = store.remove_files([f"up/{name}" for name in names], ALWAYS)
    assert [(one.files, one.error) for one in gone] == [(1, None)] * len(names)
    gone = store.remove_trees([Tree(f"runs/1/{name}") for name in names], ALWAYS)
    assert [(one.files, one.error) for one in gone] == [(1, None)] * len(names)
    assert place.held() == {"private/up/other"}


def test_a_tree_goes_and_its_neighbours_stay(place: Place, store: Store) -> None:
    others = {"runs/1/22/a", "runs/1/2.bak/a", "runs/11/2/a", "runs/1/3", "runs/2/2/a"}
    put(place, "runs/1/2/a", "runs/1/2/b/c/d", "runs/1/2/2/a", *others)
    place.put("public/runs/1/2/a")
    (outcome,) = store.remove_trees([Tree("runs/1/2")], ALWAYS)
    assert (outcome.files, outcome.error) == (3, None)
    assert place.held() == {f"private/{key}" for key in others} | {"public/runs/1/2/a"}


def test_outputs_stay_and_everything_else_goes(place: Place, store: Store) -> None:
    tree = copied_inputs(BUNDLE, BUNDLE_OF_RUN)
    put(place, *(f"{tree.prefix}/{path}" for path in KEPT | GONE))
    (measured,) = store.measure_trees([tree])
    assert store.remove_trees([tree], ALWAYS) == [measured]
    assert (measured.files, measured.error) == (len(GONE), None)
    assert measured.bytes == sum(len(f"private/{tree.prefix}/{path}") for path in GONE)
    assert place.held() == {f"private/{tree.prefix}/{path}" for path in KEPT}
    assert store.remove_trees([tree], ALWAYS) == [ABSENT]
    assert store.remove_trees([whole_bundle(BUNDLE, BUNDLE_OF_RUN)], ALWAYS)[0].files == len(KEPT)
    assert place.held() == set()


def test_what_is_named_like_an_output_but_is_of_the_other_kind_goes(
    place: Place, store: Store
) -> None:
    tree = copied_inputs(BUNDLE, BUNDLE_OF_RUN)
    odd = [
        "output.json/a",
        "output",
        f"attempts/{KNOWN}/outputs",
        f"attempts/{KNOWN}/output.json/b",
    ]
    put(place, *(f"{tree.prefix}/{path}" for path in odd))
    assert store.remove_trees([tree], ALWAYS)[0].files == len(odd)
    assert place.held() == set()


def test_measuring_changes_nothing(place: Place, store: Store) -> None:
    put(place, "up/a", "runs/1/2/a", "runs/1/2/b")
    before = place.held()
    assert [one.files for one in store.measure_files(["up/a", "up/b"])] == [1, 0]
    assert [one.files for one in store.measure_trees([Tree("runs/1/2")])] == [2]
    assert place.held() == before


def test_a_tree_of_many_pages_goes_and_is_kept_page_by_page(
    place: Place, opened: Callable[..., Store]
) -> None:
    store = opened("private/", page=7)
    names = {f"{kind}/{number:03}" for kind in ("input", "output", "z") for number in range(20)}
    put(place, *(f"runs/7/{RUN}/{name}" for name in names), "runs/7/x")
    trees = [Tree("runs/7/none"), copied_inputs(BUNDLE, BUNDLE_OF_RUN)]
    assert store.measure_trees(trees)[1].files == 40
    assert [one.files for one in store.remove_trees(trees, ALWAYS)] == [0, 40]
    kept = {f"private/runs/7/{RUN}/{name}" for name in names if name.startswith("output/")}
    assert place.held() == {*kept, "private/runs/7/x"}


def test_keys_are_relative_to_the_stores_prefix(place: Place, opened: Callable[..., Store]) -> None:
    place.put("public/files/runs/1/2/a")
    place.put("private/files/runs/1/2/a")
    assert opened("public/").remove_trees([Tree("files/runs/1/2")], ALWAYS)[0].files == 1
    assert opened().remove_files(["private/files/runs/1/2/a"], ALWAYS)[0].files == 1
    assert place.held() == set()


def test_everything_may_be_written_again(place: Place, store: Store) -> None:
    for _ in range(2):
        put(place, "up/a.json")
        assert store.remove_files(["up/a.json"], ALWAYS)[0].files == 1
    assert place.held() == set()


def test_what_appears_in_a_tree_meanwhile_goes_too(place: Place, store: Store) -> None:
    put(place, "runs/1/2/a/x")
    late = iter(["runs/1/2/late", "runs/1/2/a/later"])

    def keep(parts: tuple[str, ...], is_directory: bool) -> bool:
        put(place, *[path for path in [next(late, None)] if path])
        return False

    (outcome,) = store.remove_trees([Tree("runs/1/2", keep)], ALWAYS)
    assert (outcome.files, outcome.error) == (3, None)
    assert place.held() == set()


@pytest.fixture
def bucket(place: Place) -> BucketPlace:
    assert isinstance(place, S3Place | GcsPlace)
    return place


@pytest.mark.parametrize("place", BUCKETS, indirect=True)
def test_objects_that_the_rows_of_a_run_name_stay(bucket: BucketPlace, store: Store) -> None:
    prefix = f"runs/7/{RUN}"
    other_scheme = "gs" if isinstance(bucket, S3Place) else "s3"
    uris = frozenset(
        {
            f"{bucket.url}private/{prefix}/named.json",
            f"{bucket.url}private/{prefix}/deep/é %.json",
            f"{bucket.url}private/{prefix}/folder",
            f"{bucket.url}{prefix}/without-private.json",
            f"{bucket.url[:-1]}2/private/{prefix}/other-bucket.json",
            f"{other_scheme}://{bucket.name}/private/{prefix}/other-service.json",
            f"/private/{prefix}/path.json",
            "",
        }
    )
    kept = {"named.json", "deep/é %.json", "output.json"}
    gone = {"named.json.bak", "folder/a", "without-private.json", "path.json"}
    gone |= {"other-bucket.json", "other-service.json"}
    put(bucket, *(f"{prefix}/{name}" for name in kept | gone))
    bundle = Bundle(7, RUN, frozenset(), uris)
    assert store.remove_trees([copied_inputs(BUNDLE, bundle)], ALWAYS)[0].files == len(gone)
    assert bucket.held() == {f"private/{prefix}/{name}" for name in kept}
    assert store.remove_trees([whole_bundle(BUNDLE, bundle)], ALWAYS)[0].files == len(kept)


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_local_files_are_not_kept_by_addresses(place: Place, store: Store) -> None:
    put(place, f"runs/7/{RUN}/a.json")
    uris = frozenset({f"s3://b/private/runs/7/{RUN}/a.json", f"file:///runs/7/{RUN}/a.json"})
    assert store.remove_trees([copied_inputs(BUNDLE, Bundle(7, RUN, frozenset(), uris))], ALWAYS)[
        0
    ].files


@pytest.mark.parametrize("place", BUCKETS, indirect=True)
def test_keys_that_no_file_system_could_hold_go_with_their_tree(
    bucket: BucketPlace, store: Store
) -> None:
    prefix = f"runs/7/{RUN}/"
    names = ["", "input/", "input//a", "/a", "../x", "./y", "a", "a/b"]
    kept = ["output/", "output//a", "output/../b"]
    put(bucket, *(prefix + name for name in names + kept))
    tree = copied_inputs(BUNDLE, BUNDLE_OF_RUN)
    assert store.remove_trees([tree], ALWAYS)[0].files == len(names)
    assert bucket.held() == {f"private/{prefix}{name}" for name in kept}


@pytest.mark.parametrize("place", ["s3-versioned", "gcs-versioned"], indirect=True)
def test_all_versions_and_markers_of_a_key_go(
    bucket: BucketPlace, opened: Callable[..., Store]
) -> None:
    store = opened("private/", page=4)
    for number in range(12):
        bucket.put("private/up/a", "x" * number)
        bucket.put("private/runs/1/2/a", "y")
        bucket.put("private/runs/1/2/b", "z")
    bucket.put("private/up/ab")
    for key in ("private/up/a", "private/runs/1/2/b"):
        bucket.hide(key)
    expected = [Deletion(12, sum(range(12)))]
    assert store.measure_files(["up/a"]) == expected
    assert store.remove_files(["up/a"], ALWAYS) == expected
    assert store.remove_trees([Tree("runs/1/2")], ALWAYS) == [Deletion(24, 24)]
    assert bucket.held() == {"private/up/ab"}


@pytest.mark.parametrize("place", ["s3-versioned"], indirect=True)
def test_a_marker_alone_goes_and_counts_as_nothing(bucket: BucketPlace, store: Store) -> None:
    assert isinstance(bucket, S3Place)
    put(bucket, "up/a")
    bucket.hide("private/up/a")
    (version,) = bucket.client.list_object_versions(Bucket=bucket.name)["Versions"]
    bucket.client.delete_object(
        Bucket=bucket.name, Key="private/up/a", VersionId=version["VersionId"]
    )
    assert bucket.held() == {"private/up/a"}
    assert store.remove_files(["up/a"], ALWAYS) == [ABSENT]
    assert bucket.held() == set()


def test_10_12_folders_are_listed_whatever_the_length_of_a_page(
    place: Place, opened: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {f"run-{number}" for number in range(7)}
    put(place, *(f"runs/7/{name}/a/b.json" for name in names), "runs/7/file", "runs/70/x/a")
    for page in (1, 2, 1_000):
        monkeypatch.setattr(bucket_inventory, "PAGE", page)
        found = list(opened("private/").folders("runs/7"))
        assert sorted(found) == sorted(names)
    assert sorted(opened("private/").folders("runs")) == ["7", "70"]
    assert list(opened("private/").folders("absent")) == []


def test_10_12_a_tree_is_as_old_as_its_newest_file(
    place: Place, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_inventory, "PAGE", 1)
    before = datetime.now(UTC) - timedelta(seconds=2)  # S3 tells whole seconds
    put(place, "runs/a/1", "runs/a/deep/2", "runs/b/1")
    first, second, absent = store.newest(["runs/a", "runs/b", "runs/c"])
    assert absent == Newest()
    for one in (first, second):
        assert one.error is None
        assert one.moment is not None
        assert before < one.moment < datetime.now(UTC) + timedelta(seconds=2)
