"""What a bucket store works on: keys and trees, with what was listed and what became of them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from maintenance.errors import UnsafeKey
from maintenance.storage.service import Page, Version
from maintenance.storage.store import ABSENT, Deletion


@dataclass(slots=True, eq=False)
class Target:
    """A key or a tree: the prefix that is listed, and its outcome so far."""

    prefix: str
    doomed: Callable[[str], bool]
    single: bool
    outcome: Deletion = ABSENT
    following: str | None = None
    found: bool = False
    busy: str | None = None

    def ends_with(self, page: Page) -> bool:
        """Return whether no later page can hold more of it: a single key is listed first."""
        if page.following is None:
            return True
        return self.single and bool(page.versions) and page.versions[-1].key != self.prefix


Found = list[tuple[Target, Version]]


def refused(error: UnsafeKey) -> Target:
    """Return the target of a key that must not be touched."""
    return Target("", lambda _key: False, single=True, outcome=Deletion(error=str(error)))


def workable(targets: Iterable[Target]) -> list[Target]:
    """Return the targets that were not refused, equal ones once."""
    return [target for target in dict.fromkeys(targets) if target.outcome.error is None]


def outcomes_of(targets: Iterable[Target]) -> list[Deletion]:
    """Return each target's outcome; a key that was given twice is deleted by the first."""
    outcomes = []
    seen: set[Target] = set()
    for target in targets:
        again = target in seen
        outcomes.append(Deletion(error=target.outcome.error) if again else target.outcome)
        seen.add(target)
    return outcomes


def chunks_of(found: Found, size: int) -> Iterator[Found]:
    """Yield parts of at most `size` versions."""
    iterator = iter(found)
    while chunk := list(islice(iterator, size)):
        yield chunk


def size_of(version: Version) -> Deletion:
    """Return what the deletion of a version counts as."""
    return ABSENT if version.marker else Deletion(1, version.bytes)
