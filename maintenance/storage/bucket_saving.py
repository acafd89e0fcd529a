"""Saving a file in a bucket, where an object is written as a whole or not at all.

The key is listed first, and then written by a conditional request only if it is still free. A
service that ignores conditions can overwrite only what was written between the two requests.
Objects are read only where a name is taken.
"""

from maintenance.errors import UnsafeKey
from maintenance.storage.keys import split_key
from maintenance.storage.saving import all_taken, candidates
from maintenance.storage.service import Bucket, Refusal
from maintenance.storage.store import Saved

PAGE = 10
"""Versions that are listed of a key; keys that only begin like it are listed after them."""


def save_file(bucket: Bucket, prefix: str, key: str, content: bytes) -> Saved:
    """Save one file; see `Store.save_files`.

    Raises:
        TransientStorageError: the service does not answer, or is too busy.
    """
    try:
        parts = split_key(key)
    except UnsafeKey as error:
        return Saved(error=str(error))
    for near in candidates(parts, content):
        name = "/".join(near)
        held = _place(bucket, prefix + name, content)
        if isinstance(held, Refusal):
            return Saved(error=f"{key}: {held.cause}")
        if held:
            return Saved(name)
    return Saved(error=all_taken(key))


def _place(bucket: Bucket, name: str, content: bytes) -> bool | Refusal:
    """Write an object unless its name is taken; return whether the name now holds these bytes."""
    listed = bucket.page(name, None, PAGE)
    if isinstance(listed, Refusal):
        return listed
    known = any(version.key == name for version in listed.versions)
    held = bucket.holds(name, content) if known else None
    if held is None:
        # Another process may have taken the name meanwhile, with these bytes or others.
        held = bucket.write(name, content) or bucket.holds(name, content)
    return held or False
