"""S3, and services with its protocol, through botocore (the extra `s3`).

In a versioned bucket a plain delete only adds a delete marker; so the versions are listed and each
one is deleted by its id, markers included. An unversioned bucket lists its objects as versions
named `null`. botocore finds the credentials as in all of Amazon's clients.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as NoConnection
from botocore.loaders import Loader
from botocore.parsers import ResponseParserError
from botocore.session import Session
from botocore.utils import parse_timestamp

from maintenance.errors import StorageError, TransientStorageError
from maintenance.storage.permit import Permit
from maintenance.storage.s3_listing import NOT_IMPLEMENTED, S3Listing
from maintenance.storage.saving import content_type
from maintenance.storage.service import REQUESTS, Page, Refusal, Version

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import ObjectIdentifierTypeDef

# The batch's transaction is idle meanwhile, and PostgreSQL ends it after a minute: three attempts
# that time out must end before.
CONNECT_SECONDS = 5
READ_SECONDS = 12
ATTEMPTS = 3

BUSY_STATUS = 429
BROKEN_STATUS = 500
TAKEN_CODES = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
PASSING_CODES = frozenset(
    {
        "InternalError",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
    }
)
MOST_TEXT = 300

DESCRIPTIONS = Loader()
"""botocore's description of S3. Reading it takes most of the time of making a client, and each
slice makes one; so it is read once per process."""


class S3Bucket:
    """A bucket of S3; see `Bucket` for what its methods promise."""

    bulk = 1_000

    def __init__(
        self,
        name: str,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        attempts: int = ATTEMPTS,
        requests: int = REQUESTS,
    ) -> None:
        """Make the client, without a request to the service.

        Args:
            name: the bucket.
            endpoint_url: the address of a service other than Amazon's.
            region: the bucket's region, unless the environment names it.
            attempts: how often a request is sent while the service is busy or does not answer.
            requests: connections that are kept: one for each thread that sends requests.

        Raises:
            StorageError: the settings do not make a client.
        """
        self.url = f"s3://{name}/"
        self._name = name
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=requests,
        )
        try:
            session = Session()
            session.register_component("data_loader", DESCRIPTIONS)
            parsers = session.get_component("response_parser_factory")
            parsers.set_parser_defaults(timestamp_parser=_moment)
            client = session.create_client(
                "s3", endpoint_url=endpoint_url, region_name=region, config=config
            )
        except (BotoCoreError, ValueError) as error:
            message = (
                f"{self.url}: {type(error).__name__}: are AWS_S3_ENDPOINT_URL and"
                " AWS_S3_REGION_NAME right?"
            )
            raise StorageError(message) from None
        self._client = cast("S3Client", client)
        self._listing = S3Listing(self._client, name)

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
        """List versions whose keys begin with a prefix, in the order of their keys."""
        try:
            return self._listing.page(prefix, following, size, delimiter)
        except ClientError as error:
            return self._refused(error)
        except (KeyError, ResponseParserError) as error:
            message = f"{self.url}: the answer to a listing cannot be read ({type(error).__name__})"
            raise StorageError(message) from None
        except BotoCoreError as error:
            raise self._failure(error) from None

    def holds(self, key: str, content: bytes) -> bool | Refusal | None:
        """Return whether an object has exactly these bytes, None when there is no such object."""
        held = self.read(key, len(content) + 1)
        return held == content if isinstance(held, bytes) else held

    def read(self, key: str, size: int) -> bytes | Refusal | None:
        """Return the first bytes of an object, None when there is no such object."""
        try:
            answer = self._client.get_object(Bucket=self._name, Key=key)
            with closing(answer["Body"]) as body:
                return body.read(size)
        except ClientError as error:
            if _error(error.response).get("Code") == "NoSuchKey":
                return None
            return self._refused(error)
        except BotoCoreError as error:
            raise self._failure(error) from None

    def write(self, key: str, content: bytes, *, replace: bool = False) -> bool | Refusal:
        """Write an object if its key is free or may be replaced; return whether it was written."""
        condition: Any = {} if replace else {"IfNoneMatch": "*"}
        try:
            self._client.put_object(
                Bucket=self._name,
                Key=key,
                Body=content,
                ContentType=content_type(key),
                **condition,
            )
        except ClientError as error:
            if _error(error.response).get("Code") in TAKEN_CODES:
                return False
            return self._refused(error)
        except BotoCoreError as error:
            raise self._failure(error) from None
        return True

    def delete(self, versions: Sequence[Version], permit: Permit) -> list[Refusal | None]:
        """Delete versions for good; None for each that is gone, also if it was gone before."""
        objects: list[ObjectIdentifierTypeDef] = [
            {"Key": one.key, "VersionId": one.id} if one.id else {"Key": one.key}
            for one in versions
        ]
        permit.check()
        try:
            answer = self._client.delete_objects(
                Bucket=self._name, Delete={"Objects": objects, "Quiet": True}
            )
        except ClientError as error:
            self._refused(error)
            # A key that the request cannot hold (a control character) must not fail the others.
            return [self._delete_one(version, permit) for version in versions]
        except BotoCoreError as error:
            raise self._failure(error) from None
        # Some services name only the key that was refused, not the version.
        refused = {
            (error.get("Key"), error.get("VersionId")): _refusal({"Error": error})
            for error in answer.get("Errors", [])
        }
        return [refused.get((one.key, one.id)) or refused.get((one.key, None)) for one in versions]

    def _delete_one(self, version: Version, permit: Permit) -> Refusal | None:
        permit.check()
        try:
            if version.id:
                self._client.delete_object(Bucket=self._name, Key=version.key, VersionId=version.id)
            else:
                self._client.delete_object(Bucket=self._name, Key=version.key)
        except ClientError as error:
            return _refusal(error.response)
        except BotoCoreError as error:
            raise self._failure(error) from None
        return None

    def _refused(self, error: ClientError) -> Refusal:
        """Return why one key was refused; raise when the service is busy or broken."""
        refusal = _refusal(error.response)
        if refusal.passing:
            raise self._unavailable(refusal.cause) from None
        return refusal

    def _unavailable(self, cause: str) -> TransientStorageError:
        return TransientStorageError(f"{self.url}: {cause}")

    def _failure(self, error: BotoCoreError) -> StorageError:
        """Turn an error without an answer into ours, without its text, which may hold secrets."""
        if isinstance(error, (NoConnection, HTTPClientError)):
            return self._unavailable(f"no answer ({type(error).__name__})")
        known = isinstance(error, (NoCredentialsError, PartialCredentialsError))
        return StorageError(f"{self.url}: {error if known else type(error).__name__}")


def _moment(text: str) -> datetime:
    """Read a time as S3 writes it; any other as botocore does, which takes far longer.

    A listing has a time for each version, and most of reading it was reading them.
    """
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        moment = parse_timestamp(text)
    return moment if moment.tzinfo else parse_timestamp(text)


def _error(response: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = response.get("Error", {})
    return found


def _refusal(response: Mapping[str, Any]) -> Refusal:
    """Turn an error's answer, or the error of one key in it, into a cause."""
    error = _error(response)
    code = str(error.get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    passing = (status >= BROKEN_STATUS and code != NOT_IMPLEMENTED) or status == BUSY_STATUS
    text = " ".join(f"{code}: {error.get('Message') or 'no reason given'}".split())
    return Refusal(text[:MOST_TEXT], passing=passing or code in PASSING_CODES)
