"""A bucket of an object store as a store: what S3 and Google Cloud Storage have in common.

The service is behind the small `Bucket`; what is the same for all services is here. Keys are
checked, listings are read page by page, deletes are sent in bulk, and a key is done when a listing
*after* the deletion shows no version of it. Several threads list and delete, because most of the
time is spent waiting for answers; each has one request in flight. At most a few pages are in
memory, however many keys a bundle has. Every stored version counts as a file; a delete marker has
no bytes and does not count.

An object store has no directories: a tree is all keys below its prefix and a slash, and the
directories that a keep-list asks about are the components of a key.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from maintenance.errors import StorageError, TransientStorageError, UnsafeKey
from maintenance.storage.bucket_inventory import FILE_PAGE, folders, holds, newest
from maintenance.storage.bucket_listing import HELD, list_in_waves
from maintenance.storage.bucket_saving import save_file
from maintenance.storage.bucket_targets import (
    Found,
    Target,
    chunks_of,
    outcomes_of,
    refused,
    size_of,
    workable,
)
from maintenance.storage.keys import split_file_key, split_key
from maintenance.storage.marker import MARKER, MAX_MARKER_BYTES
from maintenance.storage.permit import ALWAYS, Permit, wait_for_all
from maintenance.storage.service import REQUESTS, Bucket, Refusal
from maintenance.storage.store import Deletion, Newest, Saved, Tree

PAGE = 1_000
"""Versions on one page of a tree's listing: the services' maximum."""

CALLS = 4
"""Delete requests that are queued at a time for each thread. When the service was too busy for all
of them, the rest of the pass is not tried."""

MAX_PASSES = 5
"""How often a key is listed while versions of it are left or appear."""

PAUSE_SECONDS = 0.1
"""Wait before keys that the service was too busy for are tried again; doubled each time."""

PATIENCE_SECONDS = 10.0
"""How long they are tried again, including the retries of the service's own client."""


class BucketStore:
    """The keys of a bucket below a prefix; see `Store` for what its methods promise."""

    absent = False

    def __init__(
        self,
        bucket: Bucket,
        prefix: str = "",
        *,
        requests: int = REQUESTS,
        page: int = PAGE,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Check that the bucket exists and may be listed.

        Args:
            bucket: the bucket; it is closed with the store.
            prefix: what the store's keys are relative to: empty, or ending in a slash.
            requests: requests that are in flight at a time at most.
            page: most versions on one page of a tree's listing.
            patience_seconds: how long keys that the service is too busy for are tried again.

        Raises:
            StorageError: the bucket is missing or may not be listed.
        """
        bucket.check(prefix)
        self._bucket = bucket
        self._prefix = prefix
        self._page = page
        self._patience_seconds = patience_seconds
        self._calls = CALLS * requests
        self._pool = ThreadPoolExecutor(requests, thread_name_prefix="storage")

    def close(self) -> None:
        """End the threads and close the connections."""
        self._pool.shutdown()
        self._bucket.close()

    @property
    def place(self) -> str:
        """The bucket and prefix, as messages call them."""
        return f"storage {self._bucket.url}{self._prefix}"

    def read_marker(self) -> bytes | None:
        """Return the content of the prefix's marker."""
        content = self._bucket.read(self._prefix + MARKER, MAX_MARKER_BYTES)
        if isinstance(content, Refusal):
            if not holds(self._bucket, self._prefix, MARKER):
                return None  # S3 denies to read what is absent if listing is allowed by prefix.
            message = f"{self.place}: {MARKER} cannot be read: {content.cause}"
            raise StorageError(message)
        return content

    def write_marker(self, content: bytes) -> None:
        """Write or replace the prefix's marker."""
        done = self._bucket.write(self._prefix + MARKER, content, replace=True)
        if isinstance(done, Refusal):
            message = f"{self.place}: {MARKER} cannot be written: {done.cause}"
            raise StorageError(message)

    def exist(self, keys: Sequence[str]) -> list[bool]:
        """Return for each key whether there is an object, or for a tree any below it."""
        return list(self._pool.map(lambda key: holds(self._bucket, self._prefix, key), keys))

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names of the folders directly below a prefix."""
        return folders(self._bucket, self._full(prefix))

    def newest(self, prefixes: Sequence[str]) -> list[Newest]:
        """Return for each tree when its newest version was written."""
        full = [self._full(prefix) for prefix in prefixes]
        return list(self._pool.map(lambda one: newest(self._bucket, one), full))

    def save_files(self, files: Sequence[tuple[str, bytes]]) -> list[Saved]:
        """Save files, never over others; one outcome per file, in their order."""
        return list(
            self._pool.map(lambda file: save_file(self._bucket, self._prefix, *file), files)
        )

    def remove_files(self, keys: Sequence[str], permit: Permit = ALWAYS) -> list[Deletion]:
        """Delete single files; one outcome per key, in their order."""
        targets = self._files(keys)
        self._remove(targets, FILE_PAGE, permit)
        return outcomes_of(targets)

    def remove_trees(self, trees: Sequence[Tree], permit: Permit = ALWAYS) -> list[Deletion]:
        """Delete trees; one outcome per tree, in their order."""
        targets = [self._tree(tree) for tree in trees]
        self._remove(targets, self._page, permit)
        return outcomes_of(targets)

    def measure_files(self, keys: Sequence[str]) -> list[Deletion]:
        """Return what `remove_files` would delete, without changing anything."""
        targets = self._files(keys)
        self._measure(targets, FILE_PAGE)
        return outcomes_of(targets)

    def measure_trees(self, trees: Sequence[Tree]) -> list[Deletion]:
        """Return what `remove_trees` would delete, without changing anything."""
        targets = [self._tree(tree) for tree in trees]
        self._measure(targets, self._page)
        return outcomes_of(targets)

    def _full(self, prefix: str) -> str:
        """Return the beginning of the keys in a tree."""
        return self._prefix + "/".join(split_key(prefix)) + "/"

    def _files(self, keys: Sequence[str]) -> list[Target]:
        """Return the target of each key; equal keys share theirs."""
        targets: dict[str, Target] = {}
        found = []
        for key in keys:
            target = self._file(key)
            found.append(targets.setdefault(target.prefix, target) if target.prefix else target)
        return found

    def _file(self, key: str) -> Target:
        try:
            full = self._prefix + "/".join(split_file_key(key))
        except UnsafeKey as error:
            return refused(error)
        return Target(full, full.__eq__, single=True)

    def _tree(self, tree: Tree) -> Target:
        try:
            prefix = self._full(tree.prefix)
        except UnsafeKey as error:
            return refused(error)
        url = self._bucket.url
        named = {uri.removeprefix(url) for uri in tree.kept_uris if uri.startswith(url)}

        def doomed(key: str) -> bool:
            parts = tuple(key.removeprefix(prefix).split("/"))
            kept = key in named or tree.keep(parts, False)  # noqa: FBT003 - a callable
            return not kept and not any(
                tree.keep(parts[:depth], True)  # noqa: FBT003
                for depth in range(1, len(parts))
            )

        return Target(prefix, doomed, single=False)

    def _measure(self, targets: Iterable[Target], page: int) -> None:
        for found in self._listed(workable(targets), page):
            for target, version in found:
                target.outcome += size_of(version)

    def _remove(self, targets: Iterable[Target], page: int, permit: Permit) -> None:
        """Delete until a listing shows nothing that is to be deleted."""
        wanted = left = workable(targets)
        given_up: list[Target] = []
        deadline = time.monotonic() + self._patience_seconds
        for number in range(MAX_PASSES):
            self._pass(left, page, permit)
            left = [target for target in left if target.found and target.outcome.error is None]
            if any(target.busy for target in left):
                pause = PAUSE_SECONDS * 2**number
                if time.monotonic() + pause < deadline:
                    time.sleep(pause)
                    continue
                given_up += [target for target in left if target.busy]
                left = [target for target in left if not target.busy]
        left += given_up
        if len(left) > 1 and not any(one.outcome.files or one.outcome.error for one in wanted):
            # Several keys, and none was deleted: the fault is the service's, not a key's.
            causes = [target.busy for target in left if target.busy]
            if causes:
                raise TransientStorageError(f"{self._bucket.url}: {causes[0]}")
        for target in left:
            cause = target.busy or "is still there after its deletion"
            target.outcome += Deletion(error=f"{self._shown(target.prefix)}: {cause}")

    def _pass(self, targets: Sequence[Target], page: int, permit: Permit) -> None:
        """Delete what one listing shows."""
        for target in targets:
            target.found = False
            target.busy = None
        held: Found = []
        for found in self._listed(targets, page):
            # The wave that was listed last is never deleted yet: some services cannot continue a
            # listing after a version that no longer exists.
            if len(held) >= HELD:
                self._delete(held, permit)
                held = []
            held += found
        self._delete(held, permit)

    def _listed(self, targets: Sequence[Target], page: int) -> Iterator[Found]:
        """List targets to their ends; yield what is to be deleted, a wave of pages at a time."""
        for wave in list_in_waves(self._bucket, self._pool, targets, page):
            found: Found = []
            for target, answer in wave:
                if isinstance(answer, Refusal):
                    self._bucket.check(self._prefix)  # Raises if the bucket is at fault.
                    cause = f"{self._shown(target.prefix)}: {answer.cause}"
                    target.outcome += Deletion(error=cause)
                    continue
                found += [(target, one) for one in answer.versions if target.doomed(one.key)]
            yield found

    def _delete(self, found: Found, permit: Permit) -> None:
        """Delete versions in bulk and store the outcome of each."""
        chunks = list(chunks_of(found, self._bucket.bulk))
        for start in range(0, len(chunks), self._calls):
            now = chunks[start : start + self._calls]
            calls = [
                self._pool.submit(self._bucket.delete, [version for _, version in chunk], permit)
                for chunk in now
            ]
            refusals = [refusal for answer in wait_for_all(calls) for refusal in answer]
            tried = [one for chunk in now for one in chunk]
            self._record(tried, refusals)
            passing = [refusal for refusal in refusals if refusal and refusal.passing]
            if len(passing) == len(tried) > 1:
                rest = [one for chunk in chunks[start + self._calls :] for one in chunk]
                self._record(rest, [passing[0]] * len(rest))
                return

    def _record(self, tried: Found, refusals: Sequence[Refusal | None]) -> None:
        for (target, version), refusal in zip(tried, refusals, strict=True):
            target.found = True
            if refusal is None:
                target.outcome += size_of(version)
            elif refusal.passing:
                target.busy = refusal.cause
            else:
                cause = f"{self._shown(version.key)}: {refusal.cause}"
                target.outcome += Deletion(error=cause)

    def _shown(self, key: str) -> str:
        return key.removeprefix(self._prefix).replace("\0", "\\0")  # a database takes no NUL
