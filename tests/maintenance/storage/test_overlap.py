"""How many requests a store of a bucket has in flight: as many as the setting says, never more."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from maintenance.storage import bucket_listing
from maintenance.storage.bucket import BucketStore
from maintenance.storage.bucket_listing import list_in_waves
from maintenance.storage.bucket_targets import Target
from maintenance.storage.permit import ALWAYS, Permit
from maintenance.storage.s3 import S3Bucket
from maintenance.storage.service import Page
from maintenance.storage.store import Deletion, Tree
from tests.support.faults import Request
from tests.support.gcs_server import GcsServer
from tests.support.s3_server import S3Server
from tests.support.stores import BucketPlace, GcsPlace, S3Place

REQUESTS = 12
"""More than the ten connections that both clients keep by default."""
KEYS = 3 * REQUESTS

Act = Callable[[BucketStore, Permit], list[Deletion]]


@pytest.fixture(params=["s3", "gcs"])
def place(
    request: pytest.FixtureRequest,
    servers: tuple[S3Server, GcsServer],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[BucketPlace]:
    s3, gcs = servers
    monkeypatch.setattr(S3Bucket, "bulk", 2)  # as many deletes as there are threads for
    made = S3Place.make(s3) if request.param == "s3" else GcsPlace.make(gcs)
    for number in range(KEYS):
        made.put(f"private/runs/1/{number:02}/input.json")
    yield made
    for server in servers:
        server.gate.close_for(0, lambda _request: False)


def open_store(place: BucketPlace, requests: int) -> BucketStore:
    return BucketStore(place.bucket(requests), "private/", requests=requests)


def listing(request: Request) -> bool:
    """Of objects: the client of Google Cloud Storage also looks at the bucket, by itself."""
    return request.method == "GET" and "prefix=" in request.query


def deleting(request: Request) -> bool:
    return request.method in ("DELETE", "POST")


def anything(request: Request) -> bool:
    return listing(request) or deleting(request)


def on_files(store: BucketStore, permit: Permit) -> list[Deletion]:
    return store.remove_files([f"runs/1/{number:02}/input.json" for number in range(KEYS)], permit)


def on_trees(store: BucketStore, permit: Permit) -> list[Deletion]:
    return store.remove_trees([Tree(f"runs/1/{number:02}") for number in range(KEYS)], permit)


@pytest.mark.parametrize("act", [on_files, on_trees])
@pytest.mark.parametrize("when", [listing, deleting])
def test_as_many_requests_are_in_flight_as_the_setting_says_and_no_more(
    place: BucketPlace,
    act: Act,
    when: Callable[[Request], bool],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server answers only when so many requests of a kind are waiting for it."""
    store = open_store(place, REQUESTS)
    gate = place.server.gate
    gate.close_for(REQUESTS, when)
    outcomes = act(store, ALWAYS)
    store.close()
    assert (gate.met, gate.most) == (True, REQUESTS)
    assert "Connection pool is full" not in caplog.text
    assert outcomes == [Deletion(1, one.bytes) for one in outcomes]
    gate.close_for(0, anything)
    assert place.held() == set()


@pytest.mark.parametrize("act", [on_files, on_trees])
def test_one_request_at_a_time_can_be_asked_for(place: BucketPlace, act: Act) -> None:
    store = open_store(place, 1)
    gate = place.server.gate
    gate.close_for(1, anything)
    assert sum(one.files for one in act(store, ALWAYS)) == KEYS
    store.close()
    assert gate.most == 1


def test_10_2_what_is_in_flight_when_the_permit_is_withdrawn_is_all_that_goes(
    place: BucketPlace,
) -> None:
    """Every other thread has its request waiting at the server when one thread is refused."""
    store = open_store(place, REQUESTS)
    place.server.gate.close_for(REQUESTS - 1, deleting)
    asked = iter(range(REQUESTS - 1))

    def ask() -> None:
        if next(asked, None) is None:
            raise PermissionError

    with pytest.raises(PermissionError):
        on_files(store, Permit(ask, fresh_seconds=0))
    store.close()
    assert (place.server.gate.met, place.server.gate.most) == (True, REQUESTS - 1)
    each = 2 if isinstance(place, S3Place) else 1
    assert len(place.held()) == KEYS - each * (REQUESTS - 1)


def test_a_wave_of_pages_holds_a_bounded_number_of_versions_and_continues_what_it_began(
    place: BucketPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_listing, "HELD", 20)
    monkeypatch.setattr(bucket_listing, "WIDTH", 10)
    for name in "abcdef":
        place.put(f"private/runs/1/07/{name}")
    targets = [
        Target(f"private/runs/1/{number:02}/", lambda _key: True, single=False)
        for number in range(KEYS)
    ]
    waves: list[list[str]] = []
    with closing(place.bucket(REQUESTS)) as bucket, ThreadPoolExecutor(REQUESTS) as pool:
        for wave in list_in_waves(bucket, pool, targets, 1_000):
            pages = [answer for _, answer in wave if isinstance(answer, Page)]
            waves.append([one.key for page in pages for one in page.versions])
            assert len(pages) == len(wave) <= 10
    assert max(len(wave) for wave in waves) <= 20
    assert sorted(key for wave in waves for key in wave) == sorted(place.held())
    large = [number for number, wave in enumerate(waves) if any("/07/" in key for key in wave)]
    assert large == [0, 1, 2, 3], "two of its seven versions a wave, and no wave without it"
