"""What every store promises about files that are saved: local files, S3, Google Cloud Storage."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from maintenance.errors import TransientStorageError
from maintenance.storage.saving import MAX_NAMES, candidates
from maintenance.storage.store import Saved, Store
from tests.support.faults import Answer, Request
from tests.support.gcs_server import GcsServer
from tests.support.gcs_server import failure as gcs_failure
from tests.support.s3_server import S3Server
from tests.support.s3_server import failure as s3_failure
from tests.support.stores import (
    BUCKETS,
    BucketPlace,
    GcsPlace,
    LocalPlace,
    Place,
    S3Place,
    make_place,
)

KEY = "evidence/1/aaaa/manifest.json"
CONTENT = b'{"a":1}'
NEAR = re.compile(r"private/evidence/1/aaaa/manifest_[a-z0-9]{7}\.json")
NO_VERSIONS = b"<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>"


@pytest.fixture(params=["local", *BUCKETS])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, servers: tuple[S3Server, GcsServer]
) -> Iterator[Place]:
    yield make_place(request.param, tmp_path, servers)
    for server in servers:
        server.faults.clear()


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    opened = place.open("private/")
    yield opened
    opened.close()


def content(place: Place, key: str) -> bytes:
    """What a key holds now."""
    if isinstance(place, LocalPlace):
        return (place.root / key).read_bytes()
    if isinstance(place, S3Place):
        return place.client.get_object(Bucket=place.name, Key=key)["Body"].read()
    assert isinstance(place, GcsPlace)
    (live,) = (
        one for one in place.server.buckets[place.name].generations if one.live and one.name == key
    )
    return live.content.encode()


def test_files_are_saved_under_their_keys(place: Place, store: Store) -> None:
    files = [(f"evidence/1/{number}/manifest.json", b"%d" % number) for number in range(40)]
    assert store.save_files(files) == [Saved(key) for key, _ in files]
    assert place.held() == {f"private/{key}" for key, _ in files}
    assert all(content(place, f"private/{key}") == data for key, data in files)
    assert store.save_files([]) == []


def test_a_key_that_holds_these_bytes_is_used_as_it_is(place: Place, store: Store) -> None:
    assert store.save_files([(KEY, CONTENT)]) == store.save_files([(KEY, CONTENT)]) == [Saved(KEY)]
    assert place.held() == {f"private/{KEY}"}


@pytest.mark.parametrize("theirs", ["", '{"a":2}', '{"a":1}x', "{"])
def test_a_key_that_holds_others_stays_and_the_file_gets_the_same_suffix_each_time(
    place: Place, store: Store, theirs: str
) -> None:
    place.put(f"private/{KEY}", theirs)
    (saved,) = store.save_files([(KEY, CONTENT)])
    assert NEAR.fullmatch(f"private/{saved.key}")
    assert content(place, f"private/{KEY}").decode() == theirs
    assert content(place, f"private/{saved.key}") == CONTENT
    assert store.save_files([(KEY, CONTENT)]) == [saved]
    assert place.held() == {f"private/{KEY}", f"private/{saved.key}"}


def test_the_same_key_twice_in_one_call_loses_nothing(place: Place, store: Store) -> None:
    saved = store.save_files([(KEY, b"one"), (KEY, b"two"), (KEY, b"one")])
    assert [content(place, f"private/{one.key}") for one in saved] == [b"one", b"two", b"one"]


def test_when_all_names_are_taken_the_file_fails(place: Place, store: Store) -> None:
    names = ["/".join(parts) for parts in candidates(KEY.split("/"), CONTENT)]
    assert len(set(names)) == MAX_NAMES
    for name in names:
        place.put(f"private/{name}", "taken")
    (saved,) = store.save_files([(KEY, CONTENT)])
    assert (saved.key, "is taken" in (saved.error or "")) == ("", True)
    assert place.held() == {f"private/{name}" for name in names}


@pytest.mark.parametrize("key", ["../x", "/etc/x", "a/../../x", "", "a\0b", "a\\b"])
def test_a_name_that_leaves_the_root_is_refused_and_the_others_are_saved(
    place: Place, store: Store, key: str
) -> None:
    bad, good = store.save_files([(key, CONTENT), (KEY, CONTENT)])
    assert (bad.error or "").startswith("refused")
    assert good == Saved(KEY)
    assert place.held() == {f"private/{KEY}"}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("manifest.json", r"manifest_[a-z0-9]{7}\.json"),
        ("a.tar.gz", r"a\.tar_[a-z0-9]{7}\.gz"),
        ("plain", r"plain_[a-z0-9]{7}"),
        (".hidden", r"\.hidden_[a-z0-9]{7}"),
    ],
)
def test_the_suffix_comes_before_the_extension(name: str, near: str) -> None:
    first, *others = candidates(("a", name), b"x")
    assert first == ("a", name)
    assert all(re.fullmatch(near, other[-1]) for other in others)


@pytest.mark.parametrize("place", BUCKETS, indirect=True)
def test_an_object_that_appears_meanwhile_is_not_overwritten(
    place: BucketPlace, store: Store
) -> None:
    """The key is free when it is listed; the condition of the write holds."""
    place.put(f"private/{KEY}", "theirs")
    nothing = (
        Answer(200, NO_VERSIONS, "application/xml")
        if isinstance(place, S3Place)
        else Answer(200, b'{"kind": "storage#objects"}')
    )
    place.server.faults.answer(listing, nothing, times=1)
    (saved,) = store.save_files([(KEY, CONTENT)])
    assert NEAR.fullmatch(f"private/{saved.key}")
    assert content(place, f"private/{KEY}") == b"theirs"


@pytest.mark.parametrize("place", BUCKETS, indirect=True)
@pytest.mark.parametrize("step", ["list", "read", "write"])
def test_a_service_that_is_broken_is_an_error_that_passes(
    place: BucketPlace, store: Store, step: str
) -> None:
    broken = (
        s3_failure(503, "ServiceUnavailable")
        if isinstance(place, S3Place)
        else gcs_failure(503, "backendError")
    )
    refuse(place, step, broken)
    with pytest.raises(TransientStorageError):
        store.save_files([(KEY, CONTENT)])
    place.server.faults.clear()
    before = place.held()
    assert before == ({f"private/{KEY}"} if step == "read" else set())
    (saved,) = store.save_files([(KEY, CONTENT)])
    assert place.held() - before == {f"private/{saved.key}"}


@pytest.mark.parametrize("place", BUCKETS, indirect=True)
@pytest.mark.parametrize("step", ["list", "read", "write"])
def test_a_refused_object_is_its_own_failure(place: BucketPlace, store: Store, step: str) -> None:
    denied = (
        s3_failure(403, "AccessDenied")
        if isinstance(place, S3Place)
        else gcs_failure(403, "forbidden")
    )
    refuse(place, step, denied)
    bad, good = store.save_files([(KEY, CONTENT), ("evidence/2/b/manifest.json", CONTENT)])
    assert (bad.key, good.error) == ("", None)
    assert "no luck" in (bad.error or "")
    assert place.held() - {f"private/{KEY}"} == {"private/evidence/2/b/manifest.json"}


def refuse(place: BucketPlace, step: str, answer: Answer) -> None:
    """Give an answer to whatever lists, reads or writes KEY."""
    if step == "read":
        place.put(f"private/{KEY}", "theirs")
    kinds: dict[str, Callable[[Request], bool]] = {
        "list": listing,
        "read": lambda sent: sent.method == "GET" and sent.path.endswith(KEY),
        "write": lambda sent: (
            sent.method in ("PUT", "POST")
            and (sent.path.endswith(KEY) or KEY.encode() in sent.body)
        ),
    }
    place.server.faults.answer(kinds[step], answer)


def listing(sent: Request) -> bool:
    """Whether a request lists KEY."""
    return sent.method == "GET" and KEY in unquote(sent.query)


def test_an_object_is_served_as_what_it_is(servers: tuple[S3Server, GcsServer]) -> None:
    place = S3Place.make(servers[0])
    store = place.open()
    store.save_files([(KEY, CONTENT)])
    store.close()
    assert place.client.head_object(Bucket=place.name, Key=KEY)["ContentType"] == "application/json"
