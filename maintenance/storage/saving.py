"""Names for files that are saved: the wanted one, or one with a suffix when it is taken."""

import hashlib
from collections.abc import Iterator, Sequence
from mimetypes import guess_type

MAX_NAMES = 8
"""Names that are tried before a file is given up."""

SUFFIX_LENGTH = 7


def candidates(parts: Sequence[str], content: bytes) -> Iterator[tuple[str, ...]]:
    """Yield the names to try: the wanted one, then names with a suffix.

    The suffix (`_` and seven letters or digits, before the extension) is derived from the bytes, so
    that the same file gets the same name again after a crash and no copy is left behind.
    """
    *folder, name = parts
    yield (*folder, name)
    stem, dot, extension = name.rpartition(".") if "." in name.lstrip(".") else (name, "", "")
    for number in range(1, MAX_NAMES):
        digest = hashlib.sha256(number.to_bytes() + content).hexdigest()
        yield (*folder, f"{stem}_{digest[:SUFFIX_LENGTH]}{dot}{extension}")


def content_type(key: str) -> str:
    """Return the media type of a key, by its extension."""
    return guess_type(key)[0] or "application/octet-stream"


def all_taken(key: str) -> str:
    """Return the cause of a failure: every name that was tried holds other bytes."""
    return f"{key}: the name is taken, and so are {MAX_NAMES - 1} others near it"
