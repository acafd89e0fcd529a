"""Google Cloud Storage through its own client (the extra `gcs`).

Every generation of an object is listed and deleted by its number, so that nothing stays behind in
a bucket with object versioning. The service has no bulk delete: its batch requests hold single
calls that the client does not retry, so each object is deleted by one call with retries. The client
finds the credentials itself; `STORAGE_EMULATOR_HOST` points it at an emulator.
"""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import md5
from typing import Any

from google.api_core.exceptions import (
    GoogleAPICallError,
    NotFound,
    PreconditionFailed,
    RetryError,
)
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from google.cloud.storage import Client
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException

from maintenance.errors import StorageError, TransientStorageError
from maintenance.storage.permit import Permit
from maintenance.storage.saving import content_type
from maintenance.storage.service import REQUESTS, Page, Refusal, Version

# The batch's transaction is idle meanwhile, and PostgreSQL ends it after a minute: the retries must
# end before.
TIMEOUT_SECONDS = (5, 12)
RETRY_SECONDS = 20.0
DELETE_RETRY_SECONDS = 5.0
"""A key that is refused for longer is tried again in the next pass."""

PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
FAILURES = (RetryError, RequestException, GoogleAuthError, ConnectionError)
LISTING = "storage#objects"
FIELDS = "kind,items(name,generation,size,updated),prefixes,nextPageToken"
MOST_TEXT = 300


class GcsBucket:
    """A bucket of Google Cloud Storage; see `Bucket` for what its methods promise."""

    bulk = 1

    def __init__(
        self, name: str, *, retry_seconds: float = RETRY_SECONDS, requests: int = REQUESTS
    ) -> None:
        """Make the client, without a request to the service.

        Args:
            name: the bucket.
            retry_seconds: how long a call is repeated while the service is busy or broken.
            requests: connections that are kept: one for each thread that sends requests.

        Raises:
            StorageError: there are no credentials.
        """
        self.url = f"gs://{name}/"
        self._retry = DEFAULT_RETRY.with_delay(0.2, 5.0, 2.0).with_timeout(retry_seconds)
        self._delete_retry = self._retry.with_timeout(min(retry_seconds, DELETE_RETRY_SECONDS))
        try:
            self._client = Client(project=None)
        except DefaultCredentialsError:
            message = f"{self.url}: no credentials; see GOOGLE_APPLICATION_CREDENTIALS"
            raise StorageError(message) from None
        # The client has no setting for it; by default its session keeps ten connections. One more
        # is for what the client asks about the bucket by itself.
        session = self._client._http  # noqa: SLF001
        if not session.is_mtls:
            for scheme in ("https://", "http://"):
                session.mount(scheme, HTTPAdapter(pool_maxsize=requests + 1))
        self._bucket = self._client.bucket(name)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def check(self, prefix: str) -> None:
        """Raise StorageError when the keys below a prefix cannot be listed."""
        answer = self.page(prefix, None, 1)
        if isinstance(answer, Refusal):
            message = f"{self.url}{prefix} cannot be listed: {answer.cause}"
            raise StorageError(message)

    def page(
        self, prefix: str, following: str | None, size: int, *, delimiter: str = ""
    ) -> Page | Refusal:
        """List generations of objects whose names begin with a prefix, in the order of names."""
        listing = self._client.list_blobs(
            self._bucket,
            prefix=prefix,
            delimiter=delimiter or None,
            page_token=following,
            page_size=size,
            versions=True,
            fields=FIELDS,
            timeout=TIMEOUT_SECONDS,
            retry=self._retry,
        )
        pages: Iterator[Any] = listing.pages
        try:
            listed = next(pages)
            found = [
                Version(blob.name, str(blob.generation), blob.size or 0, modified=blob.updated)
                for blob in listed
            ]
        except (GoogleAPICallError, *FAILURES) as error:
            return self._refused(error)
        if listed.raw_page.get("kind") != LISTING or any(one.id == "None" for one in found):
            # An empty answer of a service with another protocol must not count as an empty bucket.
            message = f"{self.url}: the answer to a listing is not one of Google Cloud Storage"
            raise StorageError(message)
        return Page(found, listing.next_page_token, listed.prefixes)

    def holds(self, key: str, content: bytes) -> bool | Refusal | None:
        """Return whether an object has exactly these bytes, None when there is no such object.

        The service knows the digest of an object that was uploaded in one request. Objects without
        one were not saved by this project, and count as other bytes.
        """
        try:
            found = self._bucket.get_blob(key, timeout=TIMEOUT_SECONDS, retry=self._retry)
        except (GoogleAPICallError, *FAILURES) as error:
            return self._refused(error)
        if found is None:
            return None
        digest = b64encode(md5(content, usedforsecurity=False).digest()).decode()
        return bool(found.size == len(content) and found.md5_hash == digest)

    def read(self, key: str, size: int) -> bytes | Refusal | None:
        """Return the first bytes of an object, None when there is no such object."""
        try:
            content: bytes = self._bucket.blob(key).download_as_bytes(
                timeout=TIMEOUT_SECONDS, retry=self._retry
            )
        except NotFound:
            return None
        except (GoogleAPICallError, *FAILURES) as error:
            return self._refused(error)
        return content[:size]

    def write(self, key: str, content: bytes, *, replace: bool = False) -> bool | Refusal:
        """Write an object if its key is free or may be replaced; return whether it was written."""
        try:
            self._bucket.blob(key).upload_from_string(
                content,
                content_type(key),
                if_generation_match=None if replace else 0,
                timeout=TIMEOUT_SECONDS,
                retry=self._retry,
            )
        except PreconditionFailed:
            return False
        except (GoogleAPICallError, *FAILURES) as error:
            return self._refused(error)
        return True

    def delete(self, versions: Sequence[Version], permit: Permit) -> list[Refusal | None]:
        """Delete generations for good; None for each that is gone, also if it was gone before."""
        return [self._delete_one(version, permit) for version in versions]

    def _delete_one(self, version: Version, permit: Permit) -> Refusal | None:
        permit.check()
        try:
            self._bucket.delete_blob(
                version.key,
                generation=int(version.id),
                timeout=TIMEOUT_SECONDS,
                retry=self._delete_retry,
            )
        except NotFound:
            return None
        except GoogleAPICallError as error:
            return _refusal(error)
        except RetryError as error:
            if isinstance(error.cause, GoogleAPICallError):
                return _refusal(error.cause)
            raise self._failure(error) from None
        except (RequestException, GoogleAuthError, ConnectionError) as error:
            raise self._failure(error) from None
        return None

    def _refused(self, error: Exception) -> Refusal:
        """Return why one key was refused; raise when the service is busy or broken."""
        if not isinstance(error, GoogleAPICallError):
            raise self._failure(error) from None
        refusal = _refusal(error)
        if refusal.passing:
            raise self._unavailable(refusal.cause) from None
        return refusal

    def _unavailable(self, cause: str) -> TransientStorageError:
        return TransientStorageError(f"{self.url}: {cause}")

    def _failure(self, error: Exception) -> StorageError:
        """Turn an error without an answer into ours, without its text: it may hold the address."""
        if isinstance(error, RetryError):
            if isinstance(error.cause, GoogleAPICallError):
                return self._unavailable(_refusal(error.cause).cause)
            return self._unavailable(f"no answer ({type(error.cause).__name__})")
        if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
            return StorageError(f"{self.url}: the credentials are refused ({type(error).__name__})")
        return self._unavailable(f"no answer ({type(error).__name__})")


def _refusal(error: GoogleAPICallError) -> Refusal:
    """Turn an error answer into a cause, without the address in the client's own text."""
    code = int(error.code or 0)
    details: list[dict[str, str]] = [one for one in _details(error) if isinstance(one, dict)]
    first = details[0] if details else {}
    message = first.get("message") or type(error).__name__
    text = " ".join(f"{code} {first.get('reason', '')}: {message}".split())
    return Refusal(text[:MOST_TEXT], passing=code in PASSING_STATUSES)


def _details(error: GoogleAPICallError) -> list[Any]:
    """Return the details of an error answer, which the client leaves unread after an upload."""
    if error.errors:
        return list(error.errors)
    try:
        found: list[Any] = error.response.json()["error"]["errors"]
    except (AttributeError, KeyError, TypeError, ValueError):
        return []
    return found
