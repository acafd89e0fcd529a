"""Stores whose service refuses, is busy, is broken or is not there: what is one key's, what is all.

The answers are put in front of the servers; the clients and their retries are the real ones.
"""

import json
from collections.abc import Callable, Iterator

import pytest

from maintenance.errors import StorageError, TransientStorageError
from maintenance.storage.bucket import CALLS, MAX_PASSES, BucketStore
from maintenance.storage.permit import ALWAYS
from maintenance.storage.service import REQUESTS
from maintenance.storage.store import ABSENT, Deletion, Store, Tree
from maintenance.transient import is_transient
from tests.support import gcs_server, s3_server
from tests.support.faults import Answer, Request
from tests.support.gcs_server import GcsServer
from tests.support.s3_server import S3Server
from tests.support.stores import CREDENTIALS, BucketPlace, GcsPlace, S3Place


@pytest.fixture(params=["s3", "gcs"])
def place(
    request: pytest.FixtureRequest, servers: tuple[S3Server, GcsServer]
) -> Iterator[BucketPlace]:
    s3, gcs = servers
    yield S3Place.make(s3) if request.param == "s3" else GcsPlace.make(gcs)
    s3.faults.clear()
    gcs.faults.clear()


@pytest.fixture
def store(place: BucketPlace) -> Iterator[Store]:
    opened = place.open("private/")
    yield opened
    opened.close()


@pytest.fixture
def s3(servers: tuple[S3Server, GcsServer]) -> Iterator[S3Place]:
    yield S3Place.make(servers[0])
    servers[0].faults.clear()


def listing(request: Request) -> bool:
    return request.method == "GET"


def deleting(request: Request) -> bool:
    return request.method in ("DELETE", "POST")


def failure(place: BucketPlace, status: int, code: str) -> Answer:
    if isinstance(place, S3Place):
        return s3_server.failure(status, code)
    return gcs_server.failure(status, code)


def put(place: BucketPlace, *keys: str) -> None:
    for key in keys:
        place.put(f"private/{key}")


def deny(place: BucketPlace, key: str) -> str:
    """Have the service refuse one key's deletion; return what it says."""
    if isinstance(place, GcsPlace):
        place.server.faults.answer(
            lambda request: deleting(request) and request.path.endswith(f"/o/{key}"),
            gcs_server.failure(403, "forbidden", "alice does not have access"),
        )
        return "403 forbidden: alice does not have access"
    denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject"}
    policy = json.dumps({"Statement": [{**denied, "Resource": f"arn:aws:s3:::{place.name}/{key}"}]})
    place.client.put_bucket_policy(Bucket=place.name, Policy=policy)
    return "AccessDenied: Access Denied"


def test_a_key_that_may_not_be_deleted_fails_alone(place: BucketPlace, store: Store) -> None:
    keys = [f"up/{number}" for number in range(20)]
    put(place, *keys)
    cause = deny(place, "private/up/7")
    outcomes = dict(zip(keys, store.remove_files(keys, ALWAYS), strict=True))
    assert outcomes.pop("up/7") == Deletion(error=f"up/7: {cause}")
    assert {one.error for one in outcomes.values()} == {None}
    assert {one.files for one in outcomes.values()} == {1}
    assert place.held() == {"private/up/7"}


def test_a_key_that_may_not_be_deleted_fails_its_tree_alone(
    place: BucketPlace, store: Store
) -> None:
    put(place, "runs/1/2/a", "runs/1/2/b", "runs/1/2/c", "runs/1/3/a")
    cause = deny(place, "private/runs/1/2/b")
    failed, done = store.remove_trees([Tree("runs/1/2"), Tree("runs/1/3")], ALWAYS)
    assert (failed.files, failed.error) == (2, f"runs/1/2/b: {cause}")
    assert (done.files, done.error) == (1, None)
    assert place.held() == {"private/runs/1/2/b"}


def test_a_held_object_fails_alone(servers: tuple[S3Server, GcsServer]) -> None:
    s3, gcs = S3Place.make(servers[0], locks=True), GcsPlace.make(servers[1], versioned=True)
    put(s3, "up/a", "up/b")
    put(gcs, "up/a", "up/b")
    s3.client.put_object_legal_hold(Bucket=s3.name, Key="private/up/a", LegalHold={"Status": "ON"})
    gcs.server.buckets[gcs.name].generations[0].hold = True
    causes = []
    for place in (s3, gcs):
        store = place.open("private/")
        held, gone = store.remove_files(["up/a", "up/b"], ALWAYS)
        store.close()
        causes.append(held.error or "")
        assert (held.files, gone) == (0, Deletion(1, len("private/up/b")))
        assert place.held() == {"private/up/a"}
    assert causes[0].startswith("up/a: AccessDenied: ")
    assert "object lock" in causes[0]
    assert causes[1].startswith("up/a: 403 forbidden: ")
    assert "Temporary hold" in causes[1]


@pytest.mark.parametrize("kind", [listing, deleting])
@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (429, "rateLimitExceeded")])
def test_a_busy_service_is_asked_again(
    place: BucketPlace, store: Store, kind: Callable[[Request], bool], status: int, code: str
) -> None:
    put(place, "up/a", "up/b")
    place.server.faults.answer(kind, failure(place, status, code), times=1)
    assert [one.files for one in store.remove_files(["up/a", "up/b"], ALWAYS)] == [1, 1]
    assert place.held() == set()


@pytest.mark.parametrize("kind", [listing, deleting])
@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError")])
def test_a_service_that_stays_busy_is_an_error_that_passes(
    place: BucketPlace, store: Store, kind: Callable[[Request], bool], status: int, code: str
) -> None:
    put(place, "up/a", "up/b")
    place.server.faults.answer(kind, failure(place, status, code))
    with pytest.raises(TransientStorageError, match=place.url) as caught:
        store.remove_files(["up/a", "up/b"], ALWAYS)
    assert code in str(caught.value)
    assert is_transient(caught.value)
    place.server.faults.clear()
    assert place.held() == {"private/up/a", "private/up/b"}


@pytest.mark.parametrize("patience", [0.0, 1.0])
def test_keys_that_the_service_stays_busy_for_fail_alone(
    servers: tuple[S3Server, GcsServer], patience: float
) -> None:
    place = GcsPlace.make(servers[1])
    put(place, *(f"up/{number}" for number in range(9)))
    place.server.faults.answer(
        lambda request: deleting(request) and request.path[-1] in "34",
        gcs_server.failure(429, "rateLimitExceeded"),
    )
    store = BucketStore(place.bucket(), "private/", patience_seconds=patience)
    outcomes = store.remove_files([f"up/{number}" for number in range(9)])
    store.close()
    place.server.faults.clear()
    causes = {number: one.error for number, one in enumerate(outcomes) if one.error}
    assert causes == {number: f"up/{number}: 429 rateLimitExceeded: no luck" for number in (3, 4)}
    assert sum(one.files for one in outcomes) == 7
    assert place.held() == {"private/up/3", "private/up/4"}


def test_a_service_that_is_busy_is_not_asked_about_every_key(
    servers: tuple[S3Server, GcsServer],
) -> None:
    place = GcsPlace.make(servers[1])
    keys = [f"up/{number}" for number in range(3 * CALLS * REQUESTS)]
    put(place, *keys)
    place.server.faults.clear()
    place.server.faults.answer(deleting, gcs_server.failure(503, "backendError"))
    store = BucketStore(place.bucket(), "private/", patience_seconds=0)
    with pytest.raises(TransientStorageError, match="503 backendError: no luck"):
        store.remove_files(keys)
    store.close()
    asked = {one.path for one in place.server.faults.requests if deleting(one)}
    place.server.faults.clear()
    assert len(asked) == CALLS * REQUESTS


def test_a_key_of_a_bulk_delete_that_the_service_stays_busy_for_fails_alone(s3: S3Place) -> None:
    put(s3, "up/a", "up/b")
    store = s3.open("private/")
    s3.server.faults.answer(
        lambda request: request.method == "POST", s3_server.refused(["private/up/a"], "SlowDown")
    )
    s3.client.delete_object(Bucket=s3.name, Key="private/up/b")
    failed, gone = store.remove_files(["up/a", "up/b"], ALWAYS)
    store.close()
    assert (failed.files, failed.error) == (0, "up/a: SlowDown: no luck")
    assert gone == ABSENT
    assert s3.held() == {"private/up/a"}


def test_keys_of_a_bulk_delete_that_the_service_was_busy_for_are_deleted_again(
    s3: S3Place,
) -> None:
    put(s3, "up/a", "up/b", "up/c")
    store = s3.open("private/")
    s3.server.faults.answer(
        deleting,
        s3_server.refused(["private/up/a", "private/up/b", "private/up/c"], "InternalError"),
        times=MAX_PASSES - 2,
    )
    outcomes = store.remove_files(["up/a", "up/b", "up/c"], ALWAYS)
    store.close()
    assert [(one.files, one.error) for one in outcomes] == [(1, None)] * 3
    assert s3.held() == set()


def test_a_bulk_delete_that_is_refused_as_a_whole_is_done_one_by_one(s3: S3Place) -> None:
    """One name that the request cannot carry must not fail the other 999 keys."""
    put(s3, "up/a", "up/b")
    store = s3.open("private/")
    s3.server.faults.answer(
        lambda request: request.method == "POST", s3_server.failure(400, "MalformedXML")
    )
    s3.server.faults.answer(
        lambda request: request.method == "DELETE" and request.path.endswith("/up/a"),
        s3_server.failure(403, "AccessDenied"),
    )
    outcomes = store.remove_files(["up/a", "up/b"], ALWAYS)
    store.close()
    assert outcomes == [Deletion(error="up/a: AccessDenied: no luck"), Deletion(1, 12)]
    assert s3.held() == {"private/up/a"}


def test_a_deletion_that_did_not_happen_is_noticed(place: BucketPlace, store: Store) -> None:
    put(place, "up/a", "runs/1/2/a")
    said = s3_server.refused([], "") if isinstance(place, S3Place) else Answer(204, b"")
    place.server.faults.answer(deleting, said)
    (one,) = store.remove_files(["up/a"], ALWAYS)
    assert one.error == "up/a: is still there after its deletion"
    (one,) = store.remove_trees([Tree("runs/1/2")], ALWAYS)
    assert one.error == "runs/1/2/: is still there after its deletion"


def test_a_key_that_may_not_be_listed_fails_alone(place: BucketPlace, store: Store) -> None:
    put(place, "up/a", "up/b")
    place.server.faults.answer(
        lambda request: listing(request) and "up%2Fa" in request.query,
        failure(place, 403, "AccessDenied"),
    )
    failed, done = store.remove_files(["up/a", "up/b"], ALWAYS)
    assert (failed.error or "").startswith("up/a: ")
    assert "AccessDenied: no luck" in (failed.error or "")
    assert (done.files, done.error) == (1, None)


def test_rights_that_are_lost_meanwhile_fail_the_store_and_not_each_key(
    place: BucketPlace, store: Store
) -> None:
    put(place, "up/a")
    place.server.faults.answer(listing, failure(place, 403, "AccessDenied"))
    with pytest.raises(StorageError, match=r"private/ cannot be listed: .*AccessDenied") as caught:
        store.remove_files(["up/a"], ALWAYS)
    assert not is_transient(caught.value)


def test_a_service_without_versions_lists_its_objects(s3: S3Place) -> None:
    """Some that speak S3 do not know the call."""
    put(s3, "up/a", *(f"runs/1/2/{number}" for number in range(7)))
    s3.server.faults.answer(
        lambda request: "versions" in request.query.split("&"),
        s3_server.failure(501, "NotImplemented"),
    )
    store = s3.open("private/", page=3)
    assert store.remove_files(["up/a", "up/b"], ALWAYS) == [Deletion(1, 12), ABSENT]
    assert store.remove_trees([Tree("runs/1/2")], ALWAYS) == [
        Deletion(7, 7 * len("private/runs/1/2/0"))
    ]
    store.close()
    s3.server.faults.clear()
    assert s3.held() == set()


def test_no_error_holds_a_secret(place: BucketPlace, store: Store) -> None:
    put(place, "up/a")
    place.server.faults.answer(listing, failure(place, 403, "InvalidAccessKeyId"))
    with pytest.raises(StorageError) as caught:
        store.remove_files(["up/a"], ALWAYS)
    assert not any(secret in str(caught.value) for secret in CREDENTIALS.values())
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
