"""Names of stored files, checked before anything is touched (SPEC 4)."""

from maintenance.errors import UnsafeKey

NEVER_DELETED = "evidence"
"""First component of the keys of evidence receipts."""


def split_key(key: str) -> tuple[str, ...]:
    """Return a key's components.

    Raises:
        UnsafeKey: the name is empty, absolute, climbs with `..`, or cannot be a file's name.
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
    """Return the components of a file named by a column; evidence receipts are refused too."""
    parts = split_key(key)
    if parts[0] == NEVER_DELETED:
        message = f"refused: {key!r} is an evidence receipt, which is never deleted"
        raise UnsafeKey(message)
    return parts
