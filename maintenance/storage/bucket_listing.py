"""Listing many keys and trees of a bucket, several at the same time."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor

from maintenance.storage.bucket_targets import Target
from maintenance.storage.service import Bucket, Page, Refusal

HELD = 8_000
"""Versions, about, that one wave of pages holds, and that are listed before they are deleted."""

WIDTH = 160
"""Keys or trees that are listed in one wave at least. Most trees are small: with so many of them, a
page is smaller than the services allow, so that a wave of large ones holds no more than `HELD`."""

Listed = list[tuple[Target, Page | Refusal]]


def list_in_waves(
    bucket: Bucket, pool: Executor, targets: Iterable[Target], page: int
) -> Iterator[Listed]:
    """List targets to their ends, a wave of pages at a time; yield the pages.

    What has further pages is continued in the next wave, before anything else is begun: some
    services cannot continue a listing after a version that no longer exists, and the wave before
    the last one may be deleted.

    Args:
        bucket: where they are.
        pool: its threads send the requests.
        targets: keys and trees.
        page: most versions of one page.
    """
    waiting = deque(targets)
    begun: list[Target] = []
    for target in waiting:
        target.following = None
    while begun or waiting:
        room = max(WIDTH, HELD // page) - len(begun)
        now = begun + [waiting.popleft() for _ in range(min(room, len(waiting)))]
        size = min(page, max(1, HELD // len(now)))

        def ask(target: Target, size: int = size) -> Page | Refusal:
            return bucket.page(target.prefix, target.following, size)

        wave = list(zip(now, pool.map(ask, now), strict=True))
        begun = [target for target, answer in wave if _goes_on(target, answer)]
        yield wave


def _goes_on(target: Target, answer: Page | Refusal) -> bool:
    """Note where the listing of a target goes on; return whether it does."""
    if isinstance(answer, Refusal):
        return False
    target.following = answer.following
    return not target.ends_with(answer)
