"""What a bucket holds below a prefix: a key, folders, and how old they are."""

from collections.abc import Iterator
from datetime import datetime

from maintenance.errors import StorageError, UnsafeKey
from maintenance.storage.keys import split_key
from maintenance.storage.service import Bucket, Page, Refusal
from maintenance.storage.store import Newest

FILE_PAGE = 10
"""Versions on one page of the listing of a single key: keys that only begin like it are listed."""

PAGE = 1_000
"""The same for a tree."""


def holds(bucket: Bucket, prefix: str, key: str) -> bool:
    """Return whether there is an object of this key, or for a key with a slash at its end any.

    Raises:
        StorageError: the service refuses the listing.
        TransientStorageError: the service does not answer.
    """
    try:
        name = prefix + "/".join(split_key(key))
    except UnsafeKey:
        return False  # No object of ours can have this key.
    below = f"{name}/" if key.endswith("/") else name
    page = bucket.page(below, None, FILE_PAGE)
    if isinstance(page, Refusal):
        message = f"storage {bucket.url}{prefix} cannot be read: {name}: {page.cause}"
        raise StorageError(message)
    return any(not one.marker and (below != name or one.key == name) for one in page.versions)


def folders(bucket: Bucket, prefix: str) -> Iterator[str]:
    """Yield the names of the folders directly below a prefix, which ends in a slash.

    Raises:
        UnsafeKey: the service refuses the listing.
        TransientStorageError: the service does not answer.
    """
    for page in _pages(bucket, prefix, delimiter="/"):
        if isinstance(page, Refusal):
            message = f"{prefix} cannot be listed: {page.cause}"
            raise UnsafeKey(message)
        for folder in page.folders:
            yield folder.removeprefix(prefix).rstrip("/")


def newest(bucket: Bucket, prefix: str) -> Newest:
    """Return when the newest version below a prefix was written, delete markers included.

    Raises:
        TransientStorageError: the service does not answer.
    """
    found: datetime | None = None
    for page in _pages(bucket, prefix):
        if isinstance(page, Refusal):
            return Newest(error=f"{prefix}: {page.cause}")
        for version in page.versions:
            if version.modified is None:
                cause = f"{version.key}: the service does not say when it was written"
                return Newest(error=cause)
            found = max(found or version.modified, version.modified)
    return Newest(found)


def _pages(bucket: Bucket, prefix: str, delimiter: str = "") -> Iterator[Page | Refusal]:
    """Yield the pages of a listing, up to a refusal."""
    following: str | None = None
    while True:
        page = bucket.page(prefix, following, PAGE, delimiter=delimiter)
        yield page
        if isinstance(page, Refusal) or page.following is None:
            return
        following = page.following
