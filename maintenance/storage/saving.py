"""Names for files that are saved: the one that is wanted, and those near it when it is taken."""

import hashlib
from collections.abc import Iterator, Sequence
from mimetypes import guess_type

MAX_NAMES = 8
"""So many names are tried before a file is given up."""

SUFFIX_LENGTH = 7


def candidates(parts: Sequence[str], content: bytes) -> Iterator[tuple[str, ...]]:
    """Yield the names to try: the one that is wanted, then ones with a suffix.

    The suffix (`_` and seven letters or digits, before the extension) comes from the bytes: the
    same file finds the same name again after a crash, instead of leaving a copy behind.
    """
    *folder, name = parts
    yield (*folder, name)
    stem, dot, extension = name.rpartition(".") if "." in name.lstrip(".") else (name, "", "")
    for number in range(1, MAX_NAMES):
        digest = hashlib.sha256(number.to_bytes() + content).hexdigest()
        yield (*folder, f"{stem}_{digest[:SUFFIX_LENGTH]}{dot}{extension}")


def content_type(key: str) -> str:
    """Return what an object is served as, by its extension."""
    return guess_type(key)[0] or "application/octet-stream"


def all_taken(key: str) -> str:
    """Return the cause of a failure: every name that was tried holds something else."""
    return f"{key}: the name is taken, and so are {MAX_NAMES - 1} others near it"
