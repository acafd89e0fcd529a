"""Who owns the files of a local root, from a sample of its entries."""

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from maintenance.storage.directories import DIRECTORY
from maintenance.storage.probe import PREFIX

MAX_ENTRIES = 400
"""Entries that are looked at, of each directory a few."""
PER_DIRECTORY = 6
MAX_DEPTH = 9


def foreign_owners(root: int) -> set[int]:
    """Return the owners, other than this user, of a sample of the entries of an open root."""
    seen = set(islice(_owners(root, 0), MAX_ENTRIES))
    return seen - {os.geteuid()}


def _owners(directory: int, depth: int) -> Iterator[int]:
    with suppress(OSError), os.scandir(directory) as entries:
        ours = (one for one in entries if not one.name.startswith(PREFIX))
        for entry in islice(ours, PER_DIRECTORY):
            with suppress(FileNotFoundError):
                yield entry.stat(follow_symlinks=False).st_uid
            if depth < MAX_DEPTH and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    below = os.open(entry.name, DIRECTORY, dir_fd=directory)
                    try:
                        yield from _owners(below, depth + 1)
                    finally:
                        os.close(below)
