"""Where the files of submissions and runs are stored (SPEC 4)."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from maintenance.errors import StorageError
from maintenance.settings import Settings
from maintenance.storage.bucket import BucketStore
from maintenance.storage.local import LocalStore
from maintenance.storage.service import Bucket
from maintenance.storage.store import Keep, Store, Tree

BUNDLE = "runs/{org_id}/{run_id}"
"""The prefix of a run bundle as the container workers write it, below the bundle root."""

OLDER_BUNDLE = "files/runs/{org_id}/{run_id}"
"""The prefix of a run bundle in the older layout, below the public root."""

PRIVATE = "private/"
PUBLIC = "public/"
"""The two roots in a storage bucket."""

OUTPUT_FILE = "output.json"
OUTPUT_DIRECTORIES = frozenset({"output", "outputs"})
ATTEMPTS = "attempts"


@dataclass(frozen=True)
class Bundle:
    """One run bundle: its organization and run, and its known outputs."""

    org_id: int
    run_id: UUID
    attempt_ids: frozenset[str]
    """The run's attempts, whose outputs are below `attempts/<attempt id>/`."""

    kept_uris: frozenset[str] = frozenset()
    """Addresses of objects (`gs://bucket/key`) that the run's rows name as outputs."""


@dataclass(frozen=True)
class Stores:
    """The stores of one Validibot."""

    private: Store
    bundles: tuple[tuple[Store, str], ...]
    """Each store that may hold bundles, with the template of a bundle's prefix in it."""


@contextmanager
def open_stores(settings: Settings) -> Iterator[Stores]:
    """Open the stores that the settings name, for the length of the block.

    Raises:
        StorageError: a root or a bucket is missing or may not be read, or the backend's extra is
            not installed.
        TransientStorageError: the service does not answer.
    """
    opening = {"local": _local, "s3": _in_s3, "gcs": _in_gcs}[settings.data_storage_backend]
    with ExitStack() as opened:
        yield opening(settings, opened)


def copied_inputs(template: str, bundle: Bundle) -> Tree:
    """Return the copied inputs of a bundle: everything but the run's outputs."""
    return Tree(_prefix(template, bundle), keep_outputs(bundle.attempt_ids), bundle.kept_uris)


def whole_bundle(template: str, bundle: Bundle) -> Tree:
    """Return all of a bundle."""
    return Tree(_prefix(template, bundle))


def keep_outputs(attempt_ids: frozenset[str]) -> Keep:
    """Return the keep-list of a run whose outputs stay while its inputs are deleted.

    Kept are `output.json`, `output/...` and `outputs/...`, at the top and below
    `attempts/<attempt id>/` of the known attempts. Near misses (`output.json.bak`, `outputs2/`, the
    output of an unknown attempt) are deleted.
    """

    def keep(parts: tuple[str, ...], is_directory: bool) -> bool:
        if parts[0] == ATTEMPTS and len(parts) == 3:  # noqa: PLR2004 - attempts/<id>/<name>
            if parts[1] not in attempt_ids:
                return False
        elif len(parts) != 1:
            return False
        if is_directory:
            return parts[-1] in OUTPUT_DIRECTORIES
        return parts[-1] == OUTPUT_FILE

    return keep


def _prefix(template: str, bundle: Bundle) -> str:
    return template.format(org_id=bundle.org_id, run_id=bundle.run_id)


def _local(settings: Settings, opened: ExitStack) -> Stores:
    def store(root: Path, *, required: bool = True) -> Store:
        local = LocalStore(root, required=required)
        opened.callback(local.close)
        return local

    private = store(settings.private_root)
    current = store(settings.bundle_root)
    older = store(settings.public_root, required=False)
    return Stores(private, ((current, BUNDLE), (older, OLDER_BUNDLE)))


def _in_s3(settings: Settings, opened: ExitStack) -> Stores:
    try:
        # An extra that may not be installed, and is imported only where the settings ask for it.
        from maintenance.storage.s3 import S3Bucket  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise _not_installed("s3", error) from None
    bucket = S3Bucket(
        settings.storage_bucket or "",
        endpoint_url=settings.aws_s3_endpoint_url,
        region=settings.aws_s3_region_name,
    )
    private, public = _stores(bucket, (PRIVATE, PUBLIC), opened)
    return Stores(private, ((private, BUNDLE), (public, OLDER_BUNDLE)))


def _in_gcs(settings: Settings, opened: ExitStack) -> Stores:
    try:
        from maintenance.storage.gcs import GcsBucket  # noqa: PLC0415 - the same
    except ModuleNotFoundError as error:
        raise _not_installed("gcs", error) from None
    files = GcsBucket(settings.storage_bucket or "")
    private, public = _stores(files, (PRIVATE, PUBLIC), opened)
    (bundles,) = _stores(GcsBucket(settings.gcs_validation_bucket or ""), ("",), opened)
    return Stores(private, ((bundles, BUNDLE), (public, OLDER_BUNDLE)))


def _stores(bucket: Bucket, prefixes: tuple[str, ...], opened: ExitStack) -> list[BucketStore]:
    opened.callback(bucket.close)
    stores = []
    for prefix in prefixes:
        stores.append(BucketStore(bucket, prefix))
        opened.callback(stores[-1].close)
    return stores


def _not_installed(extra: str, error: ModuleNotFoundError) -> StorageError:
    return StorageError(
        f"DATA_STORAGE_BACKEND={extra} needs the package {error.name}: install the extra with"
        f" pip install 'validibot-maintenance[{extra}]'; nothing was touched"
    )
