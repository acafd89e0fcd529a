"""Opening buckets: which ones the settings lead to, and what is said when there is none."""

import socket
import sys
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine

from maintenance.errors import SettingsError, StorageError, TransientStorageError
from maintenance.settings import load_settings
from maintenance.storage.bucket import BucketStore
from maintenance.storage.gcs import GcsBucket
from maintenance.storage.layout import BUNDLE, OLDER_BUNDLE, open_stores
from maintenance.storage.marker import MARKER
from maintenance.storage.permit import ALWAYS
from maintenance.storage.roots import open_roots
from maintenance.storage.s3 import S3Bucket
from maintenance.storage.store import Tree
from maintenance.transient import is_transient
from tests.support.gcs_server import GcsServer
from tests.support.s3_server import S3Server, failure
from tests.support.stores import CREDENTIALS, REGION, GcsPlace, S3Place

DATABASE_URL = "postgresql://x@y/z"


def test_a_missing_bucket_is_an_error_at_once(servers: tuple[S3Server, GcsServer]) -> None:
    s3 = S3Bucket("absent-bucket", endpoint_url=servers[0].url, region=REGION)
    gcs = GcsBucket("absent-bucket")
    for bucket, reason in ((s3, "NoSuchBucket: "), (gcs, "404 notFound: The specified bucket ")):
        with pytest.raises(StorageError, match=f"absent-bucket/p/ cannot be listed: {reason}"):
            BucketStore(bucket, "p/")
        bucket.close()


def test_a_service_that_is_not_there_is_an_error_that_passes(
    monkeypatch: pytest.MonkeyPatch, servers: tuple[S3Server, GcsServer]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        for bucket in (
            S3Bucket("b", endpoint_url=url, region=REGION, attempts=1),
            GcsBucket("b", retry_seconds=0.1),
        ):
            with pytest.raises(
                TransientStorageError, match=r"b/: no answer \(\w+Error\)"
            ) as caught:
                BucketStore(bucket)
            assert url not in str(caught.value)
            bucket.close()


def test_credentials_that_are_missing_are_an_error_at_once(
    monkeypatch: pytest.MonkeyPatch, servers: tuple[S3Server, GcsServer]
) -> None:
    for variable in CREDENTIALS:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    bucket = S3Bucket("b", endpoint_url=servers[0].url, region=REGION)
    with pytest.raises(StorageError, match="s3://b/: Unable to locate credentials") as caught:
        BucketStore(bucket)
    bucket.close()
    assert not is_transient(caught.value)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/dev/null/absent.json")
    with pytest.raises(StorageError, match="gs://b/: no credentials"):
        GcsBucket("b")


def test_settings_lead_to_the_buckets(
    servers: tuple[S3Server, GcsServer], database: Engine
) -> None:
    s3, files, runs = S3Place.make(servers[0]), *(GcsPlace.make(servers[1]) for _ in range(2))
    on_s3 = load_settings(
        DATABASE_URL=DATABASE_URL,
        DATA_STORAGE_BACKEND="s3",
        STORAGE_BUCKET=s3.name,
        AWS_S3_ENDPOINT_URL=servers[0].url,
        AWS_S3_REGION_NAME=REGION,
    )
    on_gcs = load_settings(
        DATABASE_URL=DATABASE_URL,
        DATA_STORAGE_BACKEND="gcs",
        STORAGE_BUCKET=files.name,
        GCS_VALIDATION_BUCKET=runs.name,
    )
    for current, place, bundles, prefix in (
        (on_s3, s3, s3, "private/"),
        (on_gcs, files, runs, ""),
    ):
        place.put("private/up/a")
        bundles.put(f"{prefix}runs/1/2/a")
        place.put("public/files/runs/1/2/a")
        with open_stores(current, database) as stores:
            (first, layout), (older, older_layout) = stores.bundles
            assert (layout, older_layout) == (BUNDLE, OLDER_BUNDLE)
            assert stores.private.remove_files(["up/a"], ALWAYS)[0].files == 1
            assert first.remove_trees([Tree("runs/1/2")], ALWAYS)[0].files == 1
            assert older.remove_trees([Tree("files/runs/1/2")], ALWAYS)[0].files == 1
        assert place.held() | bundles.held() == set()


@pytest.mark.parametrize(
    ("backend", "package", "missing"),
    [("s3", "botocore", "botocore"), ("gcs", "google.cloud", "google")],
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, backend: str, package: str, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"maintenance.storage.{backend}")
    for name in [one for one in sys.modules if one.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    current = load_settings(
        DATABASE_URL=DATABASE_URL,
        DATA_STORAGE_BACKEND=backend,
        STORAGE_BUCKET="bucket",
        GCS_VALIDATION_BUCKET="bucket",
    )
    expected = rf"needs the package {missing}.*: .*'validibot-maintenance\[{backend}\]'"
    with ExitStack() as opened, pytest.raises(StorageError, match=expected):
        open_roots(current, opened)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"DATA_STORAGE_BACKEND": "s3"}, "DATA_STORAGE_BACKEND=s3 needs STORAGE_BUCKET"),
        (
            {"DATA_STORAGE_BACKEND": "s3", "GCS_VALIDATION_BUCKET": "runs"},
            "DATA_STORAGE_BACKEND=s3 needs STORAGE_BUCKET",
        ),
        (
            {"DATA_STORAGE_BACKEND": "gcs"},
            "DATA_STORAGE_BACKEND=gcs needs STORAGE_BUCKET and GCS_VALIDATION_BUCKET",
        ),
        (
            {"DATA_STORAGE_BACKEND": "gcs", "STORAGE_BUCKET": "files"},
            "DATA_STORAGE_BACKEND=gcs needs GCS_VALIDATION_BUCKET",
        ),
        (
            {"STORAGE_BUCKET": "s3://s3cret"},
            "STORAGE_BUCKET: must be a bucket's name alone, such as validibot-files",
        ),
        (
            {"GCS_VALIDATION_BUCKET": "s3cret/private"},
            "GCS_VALIDATION_BUCKET: must be a bucket's name alone, such as validibot-files",
        ),
        *(
            (
                {"AWS_S3_ENDPOINT_URL": url},
                "AWS_S3_ENDPOINT_URL: must be http:// or https://, a host and no user or password",
            )
            for url in ("minio:9000", "https://alice:s3cret@minio", "ftp://s3cret", "https://")
        ),
    ],
)
def test_settings_that_are_missing_or_wrong_are_named(variables: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(DATABASE_URL=DATABASE_URL, **variables)
    assert str(caught.value) == f"Wrong settings: {said}"


def test_settings_of_buckets_are_read_under_validibots_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = {
        "STORAGE_BUCKET": "files.example-1_x",
        "GCS_VALIDATION_BUCKET": "runs",
        "AWS_S3_ENDPOINT_URL": "http://[::1]:9000/s3",
        "AWS_S3_REGION_NAME": "eu-central-1",
    }
    for variable, value in {**expected, "DATABASE_URL": DATABASE_URL}.items():
        monkeypatch.setenv(variable, value)
    current = load_settings()
    assert {name: getattr(current, name.lower()) for name in expected} == expected
    assert current.data_storage_backend == "local"


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_10_1_a_marker_in_a_bucket_is_written_read_and_replaced(
    servers: tuple[S3Server, GcsServer], kind: str
) -> None:
    place = S3Place.make(servers[0]) if kind == "s3" else GcsPlace.make(servers[1])
    for prefix in ("private/", ""):
        store = place.open(prefix)
        assert store.read_marker() is None
        for content in (b"first", b"second"):
            store.write_marker(content)
            assert store.read_marker() == content
        store.close()


def test_10_1_a_marker_that_is_absent_may_not_be_read_either(
    servers: tuple[S3Server, GcsServer],
) -> None:
    """S3 says so to those who may list by a prefix only; what is there and closed is an error."""
    place = S3Place.make(servers[0])
    store = place.open("private/")
    denied = failure(403, "AccessDenied")
    servers[0].faults.answer(lambda request: request.path.endswith(MARKER), denied)
    assert store.read_marker() is None
    servers[0].faults.clear()
    place.put(f"private/{MARKER}", "x")
    servers[0].faults.answer(lambda request: request.path.endswith(MARKER), denied)
    with pytest.raises(StorageError, match="cannot be read: AccessDenied"):
        store.read_marker()
    with pytest.raises(StorageError, match="cannot be written: AccessDenied"):
        store.write_marker(b"{}")
    servers[0].faults.clear()
    store.close()
