"""One place to keep files for each backend, so that the same claims can be made about all."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from boto3.session import Session

from maintenance.storage.bucket import PAGE, BucketStore
from maintenance.storage.gcs import GcsBucket
from maintenance.storage.local import LocalStore
from maintenance.storage.marker import MARKER
from maintenance.storage.s3 import S3Bucket
from maintenance.storage.service import REQUESTS
from maintenance.storage.store import Store
from tests.support.gcs_server import GcsServer, Objects, gcs_server
from tests.support.s3_server import S3Server, s3_server
from tests.support.trees import files, make_files

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

REGION = "eu-central-1"

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s3cret"}

_numbers = count(1)


@contextmanager
def services() -> Iterator[tuple[S3Server, GcsServer]]:
    """Serve both services; this process's environment leads to them and to no other."""
    with (
        pytest.MonkeyPatch.context() as patch,
        s3_server() as s3,
        gcs_server() as gcs,
    ):
        for variable, value in CREDENTIALS.items():
            patch.setenv(variable, value)
        patch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        client = Session().client("s3", endpoint_url=s3.url, region_name=REGION)
        with closing(client):
            s3.client = client
            yield s3, gcs


class Place(Protocol):
    """Where files are kept, seen past the store that is tested."""

    def open(self, prefix: str = "", *, page: int = PAGE) -> Store:
        """Open the store that is tested on it."""
        ...

    def put(self, key: str, content: str | None = None) -> None:
        """Write a file; it holds its own key unless a content is given."""
        ...

    def held(self) -> set[str]:
        """The keys of all bytes that are kept, of older versions too."""
        ...


@dataclass(frozen=True)
class LocalPlace:
    """A directory."""

    root: Path

    def open(self, prefix: str = "", *, page: int = PAGE) -> Store:
        """Open the store that is tested on it; directories have no pages."""
        del page
        (self.root / prefix).mkdir(parents=True, exist_ok=True)
        return LocalStore(self.root / prefix)

    def put(self, key: str, content: str | None = None) -> None:
        """Write a file."""
        make_files(self.root, [key])
        if content is not None:
            (self.root / key).write_text(content)

    def held(self) -> set[str]:
        """The paths of all files."""
        return files(self.root)


@dataclass(frozen=True)
class S3Place:
    """A bucket of S3."""

    server: S3Server
    client: "S3Client" = field(repr=False)
    name: str = field(default_factory=lambda: f"bucket-{next(_numbers)}")

    @classmethod
    def make(cls, server: S3Server, *, versioned: bool = False, locks: bool = False) -> "S3Place":
        """Make a bucket."""
        client = server.client
        place = cls(server, client)
        client.create_bucket(
            Bucket=place.name,
            CreateBucketConfiguration={"LocationConstraint": REGION},
            ObjectLockEnabledForBucket=locks,
        )
        if versioned:
            client.put_bucket_versioning(
                Bucket=place.name, VersioningConfiguration={"Status": "Enabled"}
            )
        return place

    @property
    def url(self) -> str:
        """What its objects' addresses begin with."""
        return f"s3://{self.name}/"

    def open(self, prefix: str = "", *, page: int = PAGE) -> Store:
        """Open the store that is tested on it."""
        return BucketStore(self.bucket(), prefix, page=page, patience_seconds=1.0)

    def bucket(self, requests: int = REQUESTS) -> S3Bucket:
        """Connect to it with little patience."""
        url = self.server.url
        return S3Bucket(self.name, endpoint_url=url, region=REGION, attempts=2, requests=requests)

    def put(self, key: str, content: str | None = None) -> None:
        """Write an object."""
        self.client.put_object(
            Bucket=self.name, Key=key, Body=(key if content is None else content).encode()
        )

    def hide(self, key: str) -> None:
        """Delete an object as the application does: on a versioned bucket, with a marker."""
        self.client.delete_object(Bucket=self.name, Key=key)

    def held(self) -> set[str]:
        """The keys of all versions and delete markers, except the markers of roots."""
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.name)
        return {
            one["Key"]
            for page in pages
            for one in (*page.get("Versions", []), *page.get("DeleteMarkers", []))
            if not one["Key"].endswith(MARKER)
        }


@dataclass(frozen=True)
class GcsPlace:
    """A bucket of Google Cloud Storage."""

    server: GcsServer
    name: str = field(default_factory=lambda: f"bucket-{next(_numbers)}")

    @classmethod
    def make(cls, server: GcsServer, *, versioned: bool = False) -> "GcsPlace":
        """Make a bucket."""
        place = cls(server)
        server.buckets[place.name] = Objects(versioned)
        return place

    @property
    def url(self) -> str:
        """What its objects' addresses begin with."""
        return f"gs://{self.name}/"

    def open(self, prefix: str = "", *, page: int = PAGE) -> Store:
        """Open the store that is tested on it."""
        return BucketStore(self.bucket(), prefix, page=page, patience_seconds=1.0)

    def bucket(self, requests: int = REQUESTS) -> GcsBucket:
        """Connect to it with little patience."""
        return GcsBucket(self.name, retry_seconds=0.4, requests=requests)

    def put(self, key: str, content: str | None = None) -> None:
        """Write an object."""
        self.server.put(self.name, key, key if content is None else content)

    def hide(self, key: str) -> None:
        """Delete an object as the application does: on a versioned bucket, it stays as older."""
        self.server.delete(self.name, key, {})

    def held(self) -> set[str]:
        """The names of all generations, except the markers of roots."""
        names = {one.name for one in self.server.buckets[self.name].generations}
        return {name for name in names if not name.endswith(MARKER)}


BucketPlace = S3Place | GcsPlace


BUCKETS = ["s3", "s3-versioned", "gcs", "gcs-versioned"]


def make_place(kind: str, directory: Path, servers: tuple[S3Server, GcsServer]) -> Place:
    """Make a place of a kind: `local`, or one of BUCKETS."""
    s3, gcs = servers
    name, _, versioned = kind.partition("-")
    if name == "local":
        return LocalPlace(directory / "root")
    if name == "s3":
        return S3Place.make(s3, versioned=bool(versioned))
    return GcsPlace.make(gcs, versioned=bool(versioned))
