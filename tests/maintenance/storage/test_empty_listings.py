"""Absence is proved by a call that exists (SPEC 10.4)."""

from collections.abc import Callable, Iterator

import pytest

from maintenance.errors import StorageError
from maintenance.storage.permit import ALWAYS
from maintenance.storage.store import ABSENT, Store, Tree
from tests.support.faults import Answer, Request
from tests.support.gcs_server import GcsServer
from tests.support.s3_server import S3Server
from tests.support.stores import GcsPlace, S3Place

XML = "application/xml"
NO_VERSIONS = b"<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>"
KEYS = ("private/up/a", "private/runs/1/2/a", "private/runs/1/2/b")


def of_versions(request: Request) -> bool:
    return "versions" in request.query.split("&")


def of_versioning(request: Request) -> bool:
    return request.query.rstrip("=") == "versioning"


def plain(truncated: str, *keys: str) -> bytes:
    """What a plain listing of a bucket looks like."""
    contents = "".join(
        f"<Contents><Key>{key}</Key><Size>{len(key)}</Size></Contents>" for key in keys
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<IsTruncated>{truncated}</IsTruncated>{contents}</ListBucketResult>"
    ).encode()


@pytest.fixture
def s3(servers: tuple[S3Server, GcsServer]) -> Iterator[S3Place]:
    place = S3Place.make(servers[0])
    for key in KEYS:
        place.put(key)
    yield place
    servers[0].faults.clear()


def remove_all(store: Store) -> list[int]:
    outcomes = [
        *store.remove_files(["up/a", "up/none"], ALWAYS),
        *store.remove_trees([Tree("runs/1/2")], ALWAYS),
    ]
    assert {one.error for one in outcomes} == {None}
    return [one.files for one in outcomes]


def opened(place: S3Place, act: Callable[[Store], object]) -> object:
    store = place.open("private/", page=2)
    try:
        return act(store)
    finally:
        store.close()


def test_10_4_an_empty_list_of_versions_of_a_bucket_that_never_had_any(s3: S3Place) -> None:
    s3.server.faults.answer(of_versions, Answer(200, NO_VERSIONS, XML))
    assert opened(s3, lambda store: store.exist(["up/a", "up/none", "runs/1/2/"])) == [
        *(True, False, True)
    ]
    assert opened(s3, remove_all) == [1, 0, 2]
    s3.server.faults.clear()
    assert s3.held() == set()


def test_10_4_a_list_of_versions_that_leaves_out_the_key(s3: S3Place) -> None:
    """Versions of keys that begin like it are listed, and what is older than versioning is not."""
    s3.put("private/up/ab")
    other = (
        b"<ListVersionsResult><IsTruncated>false</IsTruncated><Version><Key>private/up/ab</Key>"
        b"<VersionId>1</VersionId><Size>1</Size></Version></ListVersionsResult>"
    )
    s3.server.faults.answer(of_versions, Answer(200, other, XML))
    assert opened(s3, lambda store: store.remove_files(["up/a"], ALWAYS)[0].files) == 1
    s3.server.faults.clear()
    assert s3.held() == {*KEYS, "private/up/ab"} - {"private/up/a"}


@pytest.mark.parametrize("truncated", ["false", "true"])
def test_10_4_a_plain_listing_instead_of_versions(s3: S3Place, truncated: str) -> None:
    """The service ignores the parameter; it says that the bucket has no versions."""
    s3.server.faults.answer(of_versions, Answer(200, plain(truncated, *KEYS), XML))
    s3.server.faults.answer(of_versioning, Answer(200, b"<VersioningConfiguration/>", XML))
    assert opened(s3, remove_all) == [1, 0, 2]
    s3.server.faults.clear()
    assert s3.held() == set()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, plain("false"), XML),
        Answer(200, b"<html><body>Welcome</body></html>", "text/html"),
        Answer(200, b"Welcome", "text/plain"),
        Answer(200, b"", XML),
    ],
)
def test_10_4_a_service_that_ignores_all_parameters_proves_nothing(
    s3: S3Place, answer: Answer
) -> None:
    s3.server.faults.answer(of_versions, answer)
    s3.server.faults.answer(of_versioning, answer)
    with pytest.raises(StorageError, match=f"^s3://{s3.name}/: "):
        opened(s3, lambda store: store.remove_files(["up/a"], ALWAYS))
    s3.server.faults.clear()
    assert s3.held() == set(KEYS)


def test_10_4_a_plain_listing_of_a_bucket_with_versions_proves_nothing(
    servers: tuple[S3Server, GcsServer],
) -> None:
    """A plain delete would only add a delete marker."""
    place = S3Place.make(servers[0], versioned=True)
    place.put("private/up/a")
    enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    place.server.faults.answer(of_versions, Answer(200, plain("false", "private/up/a"), XML))
    place.server.faults.answer(of_versioning, Answer(200, enabled, XML))
    with pytest.raises(StorageError, match="answers ListObjectVersions with ListBucketResult"):
        opened(place, lambda store: store.remove_files(["up/a"], ALWAYS))
    place.server.faults.clear()
    assert place.held() == {"private/up/a"}


def test_10_4_an_answer_to_the_plain_listing_that_is_none_proves_nothing(s3: S3Place) -> None:
    s3.server.faults.answer(of_versions, Answer(200, NO_VERSIONS, XML))
    s3.server.faults.answer(
        lambda request: "list-type=2" in request.query, Answer(200, b"<Nothing/>", XML)
    )
    with pytest.raises(StorageError, match="answers ListObjectsV2 with Nothing"):
        opened(s3, lambda store: store.remove_files(["up/a"], ALWAYS))


@pytest.mark.parametrize("body", [b"{}", b'{"items": []}', b'{"kind": "storage#buckets"}'])
def test_10_4_an_empty_answer_that_is_no_listing_of_google_proves_nothing(
    servers: tuple[S3Server, GcsServer], body: bytes
) -> None:
    place = GcsPlace.make(servers[1])
    place.put("private/up/a")
    store = place.open("private/")
    place.server.faults.answer(lambda request: request.method == "GET", Answer(200, body))
    with pytest.raises(StorageError, match="is not one of Google Cloud Storage"):
        store.remove_files(["up/a"], ALWAYS)
    store.close()
    place.server.faults.clear()
    assert place.held() == {"private/up/a"}


def test_10_4_what_both_listings_do_not_show_is_absent(s3: S3Place) -> None:
    assert opened(s3, lambda store: store.remove_files(["up/none", "up"], ALWAYS)) == [
        ABSENT,
        ABSENT,
    ]
    assert s3.held() == set(KEYS)
