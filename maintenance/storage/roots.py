"""The storage roots of an application: local directories, or prefixes of buckets (SPEC 4)."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from maintenance.errors import StorageError
from maintenance.settings import Settings
from maintenance.storage.bucket import BucketStore
from maintenance.storage.local import LocalStore
from maintenance.storage.service import Bucket
from maintenance.storage.store import Store

BUNDLE = "runs/{org_id}/{run_id}"
"""The prefix of a run bundle as the container workers write it, below the bundle root."""

OLDER_BUNDLE = "files/runs/{org_id}/{run_id}"
"""The prefix of a run bundle in the older layout, below the public root."""

PRIVATE, PUBLIC, BUNDLES = "private", "public", "bundles"
"""The names of the roots. There is a bundle root only where it is not the private one."""


@dataclass(frozen=True)
class Root:
    """One root.

    Attributes:
        name: PRIVATE, PUBLIC or BUNDLES.
        store: its files.
        bundles: the templates of the prefixes of the bundles that it holds.
    """

    name: str
    store: Store
    bundles: tuple[str, ...] = ()


def private_root(roots: Iterable[Root]) -> Root:
    """Return the private root, which every storage has."""
    (private,) = (root for root in roots if root.name == PRIVATE)
    return private


def open_roots(settings: Settings, opened: ExitStack) -> list[Root]:
    """Open the roots that the settings name, the private one first; `opened` closes them.

    Raises:
        StorageError: a root or a bucket is missing or may not be read, or the backend's extra is
            not installed.
        TransientStorageError: the service does not answer.
    """
    opening = {"local": _local, "s3": _in_s3, "gcs": _in_gcs}[settings.data_storage_backend]
    return opening(settings, opened)


def _local(settings: Settings, opened: ExitStack) -> list[Root]:
    def store(root: Path, *, required: bool = True) -> LocalStore:
        local = LocalStore(root, required=required)
        opened.callback(local.close)
        return local

    private = store(settings.private_root)
    public = store(settings.public_root, required=False)
    # DATA_STORAGE_ROOT may lead to one of these two, by the same path or another one.
    if private.is_at(settings.bundle_root):
        return [Root(PRIVATE, private, (BUNDLE,)), Root(PUBLIC, public, (OLDER_BUNDLE,))]
    if public.is_at(settings.bundle_root):
        return [Root(PRIVATE, private), Root(PUBLIC, public, (BUNDLE, OLDER_BUNDLE))]
    return [
        Root(PRIVATE, private),
        Root(PUBLIC, public, (OLDER_BUNDLE,)),
        Root(BUNDLES, store(settings.bundle_root), (BUNDLE,)),
    ]


def _in_s3(settings: Settings, opened: ExitStack) -> list[Root]:
    try:
        # An extra that may not be installed, and is imported only where the settings ask for it.
        from maintenance.storage.s3 import S3Bucket  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise _not_installed("s3", error) from None
    bucket = S3Bucket(
        settings.storage_bucket or "",
        endpoint_url=settings.aws_s3_endpoint_url,
        region=settings.aws_s3_region_name,
        requests=settings.storage_requests,
    )
    store = partial(_in_bucket, bucket, settings, opened)
    return [
        Root(PRIVATE, store("private/"), (BUNDLE,)),
        Root(PUBLIC, store("public/"), (OLDER_BUNDLE,)),
    ]


def _in_gcs(settings: Settings, opened: ExitStack) -> list[Root]:
    try:
        from maintenance.storage.gcs import GcsBucket  # noqa: PLC0415 - the same
    except ModuleNotFoundError as error:
        raise _not_installed("gcs", error) from None
    requests = settings.storage_requests
    files = GcsBucket(settings.storage_bucket or "", requests=requests)
    store = partial(_in_bucket, files, settings, opened)
    roots = [
        Root(PRIVATE, store("private/")),
        Root(PUBLIC, store("public/"), (OLDER_BUNDLE,)),
    ]
    bundles = GcsBucket(settings.gcs_validation_bucket or "", requests=requests)
    return [*roots, Root(BUNDLES, _in_bucket(bundles, settings, opened, ""), (BUNDLE,))]


def _in_bucket(bucket: Bucket, settings: Settings, opened: ExitStack, prefix: str) -> Store:
    opened.callback(bucket.close)
    store = BucketStore(bucket, prefix, requests=settings.storage_requests)
    opened.callback(store.close)
    return store


def _not_installed(extra: str, error: ModuleNotFoundError) -> StorageError:
    return StorageError(
        f"DATA_STORAGE_BACKEND={extra} needs the package {error.name}: install the extra with"
        f" pip install 'validibot-maintenance[{extra}]'; nothing was touched"
    )
