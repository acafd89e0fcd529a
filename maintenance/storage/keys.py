"""Checking the keys of stored files before anything is deleted (SPEC 4)."""

from maintenance.errors import UnsafeKey

NEVER_DELETED = "evidence"
"""The first component of the keys of evidence manifests."""


def split_key(key: str) -> tuple[str, ...]:
    """Return a key's components.

    Raises:
        UnsafeKey: the key is empty, absolute, has a component `..`, or cannot name a file.
    """
    if "\0" in key or "\\" in key:
        message = f"refused: {key!r} holds a character that no stored name has"
        raise UnsafeKey(message)
    if key.startswith("/"):
        message = f"refused: {key!r} is absolute"
        raise UnsafeKey(message)
    parts = tuple(part for part in key.split("/") if part not in ("", "."))
    if ".." in parts:
        message = f"refused: {key!r} climbs out of its root"
        raise UnsafeKey(message)
    if not parts:
        message = f"refused: {key!r} names no file"
        raise UnsafeKey(message)
    return parts


def split_file_key(key: str) -> tuple[str, ...]:
    """Return the components of a file's key, which must not name an evidence manifest, either."""
    parts = split_key(key)
    if parts[0] == NEVER_DELETED:
        message = f"refused: {key!r} is an evidence manifest, which is never deleted"
        raise UnsafeKey(message)
    return parts
