"""Listing the versions of objects in S3, and not believing every empty answer (SPEC 10.4).

Services with S3's protocol differ in what they answer to ListObjectVersions:

* a service without versions may refuse the call as not implemented; then its objects are all;
* one that ignores the parameter `versions` sends a plain listing, which botocore reads as an empty
  list of versions. The objects are all only if the bucket is known to have no versions;
* one may list no versions in a bucket that never had any, although objects are there. So an empty
  answer is believed only together with an empty plain listing.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from maintenance.errors import StorageError
from maintenance.storage.service import Page, Version

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

NOT_IMPLEMENTED = "NotImplemented"

ROOT = re.compile(rb"\s*(?:<\?[^>]*\?>\s*)*<(?:[\w.-]+:)?([\w.-]+)")
"""The root element of an XML document."""

ANSWERS = {
    "ListObjectVersions": "ListVersionsResult",
    "ListObjectsV2": "ListBucketResult",
    "GetBucketVersioning": "VersioningConfiguration",
}
"""The root elements of the answers, which botocore does not check."""

VERSIONS, OBJECTS = "versions", "objects"


class S3Listing:
    """The listings of one bucket."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        """Take the client and the name of the bucket."""
        self._client = client
        self._bucket = bucket
        self._has_versions = True
        for operation in ANSWERS:
            client.meta.events.register(f"before-parse.s3.{operation}", _note_root)

    def page(self, prefix: str, following: str | None, size: int, delimiter: str = "") -> Page:
        """List versions whose keys begin with a prefix, in the order of their keys.

        Raises:
            StorageError: an answer is not the one of the call.
            ClientError, BotoCoreError: the service refused, or did not answer.
        """
        kind, _, place = (following or "").partition("\0")
        if kind == OBJECTS:
            return self._objects(prefix, place, size, delimiter)
        if self._has_versions:
            try:
                answer: Mapping[str, Any] = self._client.list_object_versions(
                    Bucket=self._bucket, Prefix=prefix, MaxKeys=size, **_after(place, delimiter)
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != NOT_IMPLEMENTED:
                    raise
            else:
                if _is_answer("ListObjectVersions", answer):
                    return self._believed(prefix, following, size, delimiter, _versions(answer))
                self._expect_no_versions(answer)
            self._has_versions = False
        return self._objects(prefix, "", size, delimiter)

    def _believed(
        self, prefix: str, following: str | None, size: int, delimiter: str, found: Page
    ) -> Page:
        """Return a page of versions, or one of objects if there are only such."""
        if not following and not _holds_wanted(found, prefix):
            objects = self._objects(prefix, "", size, delimiter)
            if _holds_wanted(objects, prefix):
                return objects
        return found

    def _objects(self, prefix: str, place: str, size: int, delimiter: str) -> Page:
        after: dict[str, Any] = {"ContinuationToken": place} if place else {}
        after |= {"Delimiter": delimiter} if delimiter else {}
        answer: Mapping[str, Any] = self._client.list_objects_v2(
            Bucket=self._bucket, Prefix=prefix, MaxKeys=size, **after
        )
        if not _is_answer("ListObjectsV2", answer):
            raise self._unexpected("ListObjectsV2", answer)
        versions = [
            Version(one["Key"], "", one["Size"], modified=one.get("LastModified"))
            for one in answer.get("Contents", [])
        ]
        token = answer.get("NextContinuationToken")
        if answer.get("IsTruncated") and not token:
            raise self._unexpected("ListObjectsV2", answer)
        return Page(versions, f"{OBJECTS}\0{token}" if token else None, _folders(answer))

    def _expect_no_versions(self, answer: Mapping[str, Any]) -> None:
        """Raise StorageError unless the service says that the bucket has no versions."""
        said: Mapping[str, Any] = self._client.get_bucket_versioning(Bucket=self._bucket)
        if not _is_answer("GetBucketVersioning", said) or said.get("Status"):
            raise self._unexpected("ListObjectVersions", answer)

    def _unexpected(self, operation: str, answer: Mapping[str, Any]) -> StorageError:
        return StorageError(
            f"s3://{self._bucket}/: the service answers {operation} with"
            f" {answer.get('RootElement') or 'no XML'} or not as S3 does, so that nothing can be"
            " proved absent; nothing was stamped"
        )


def _note_root(
    response_dict: Mapping[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    """Keep the name of an answer's root element."""
    found = ROOT.match(response_dict.get("body") or b"")
    customized_response_dict["RootElement"] = found.group(1).decode() if found else None


def _is_answer(operation: str, answer: Mapping[str, Any]) -> bool:
    return answer.get("RootElement") == ANSWERS[operation]


def _folders(answer: Mapping[str, Any]) -> list[str]:
    return [one["Prefix"] for one in answer.get("CommonPrefixes", [])]


def _holds_wanted(page: Page, prefix: str) -> bool:
    return bool(page.folders) or any(_is_wanted(one, prefix) for one in page.versions)


def _is_wanted(version: Version, prefix: str) -> bool:
    """Return whether a version is what a listing looks for: below a tree, or of a single key."""
    return version.key == prefix or prefix.endswith("/") or not prefix


def _after(place: str, delimiter: str) -> dict[str, Any]:
    version, _, key = place.partition("\0")
    markers: dict[str, Any] = {"KeyMarker": key} if place else {}
    markers |= {"Delimiter": delimiter} if delimiter else {}
    return markers | ({"VersionIdMarker": version} if version else {})


def _versions(answer: Mapping[str, Any]) -> Page:
    found = [
        Version(one["Key"], one["VersionId"], one["Size"], modified=one.get("LastModified"))
        for one in answer.get("Versions", [])
    ]
    found += [
        Version(one["Key"], one["VersionId"], 0, marker=True, modified=one.get("LastModified"))
        for one in answer.get("DeleteMarkers", [])
    ]
    found.sort(key=lambda one: one.key.encode())
    if not answer.get("IsTruncated"):
        return Page(found, folders=_folders(answer))
    marker = answer.get("NextVersionIdMarker", "")
    following = f"{VERSIONS}\0{marker}\0{answer['NextKeyMarker']}"
    return Page(found, following, _folders(answer))
