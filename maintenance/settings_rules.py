"""What the texts of some settings must look like (SPEC 8)."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,220}[A-Za-z0-9]")
ENDPOINT_URL = re.compile(r"https?://[A-Za-z0-9._:\[\]-]+(/[A-Za-z0-9._/-]*)?")

JOB_PLACEHOLDER = "{job}"
"""Replaced by the job's name in MAINTENANCE_SUCCESS_PING_URL."""


def check_buckets(buckets: Mapping[str, str | None], needed: int, cause: str) -> None:
    """Check that the buckets which a backend needs are set, and that all of them are names.

    Args:
        buckets: each variable with the name of its bucket, in the order in which they are needed.
        needed: how many of them the backend needs.
        cause: the variable and the value that choose the backend.

    Raises:
        ValueError: a bucket is missing, or is not a name.
    """
    missing = [variable for variable in list(buckets)[:needed] if not buckets[variable]]
    if missing:
        raise ValueError(f"{cause} needs {' and '.join(missing)}")
    for variable, name in buckets.items():
        if name is not None and not BUCKET_NAME.fullmatch(name):
            raise ValueError(f"{variable}: must be a bucket's name alone, such as validibot-files")


def check_endpoint(address: str | None) -> None:
    """Check the address of an S3-compatible service.

    Raises:
        ValueError: it is no address, or has a user or a password.
    """
    if address and not ENDPOINT_URL.fullmatch(address):
        raise ValueError(
            "AWS_S3_ENDPOINT_URL: must be http:// or https://, a host and no user or password"
        )


def is_ping_url(text: str) -> bool:
    """Return whether a text is an address that can be requested, also if it has the job's name."""
    filled = text.replace(JOB_PLACEHOLDER, "job")
    try:
        parts = urlsplit(filled)
        port = parts.port
    except ValueError:
        return False
    known = parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0
    return known and not re.search(r"[\s{}]", filled)
