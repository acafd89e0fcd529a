"""Recognizing a storage by the files that rows name (SPEC 10.1)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from maintenance.storage.named_files import MANY, Named
from maintenance.storage.roots import PRIVATE, Root, private_root

NEARLY_ALL = 0.95
"""Share of the named files that must exist: some may be lost, or be deleted at this moment."""


@dataclass
class Findings:
    """How many of a sample of the files that rows name are in a root, by kind."""

    named: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)

    @property
    def plausible(self) -> bool:
        """Whether nearly all files exist: of all kinds together, and of each with many files."""
        pairs = [(self.named[kind], self.found[kind]) for kind in self.named]
        judged = [(named, found) for named, found in pairs if named >= MANY]
        judged.append((self.named.total(), self.found.total()))
        return all(found >= NEARLY_ALL * named for named, found in judged)

    @property
    def certain(self) -> bool:
        """Whether a run may adopt the root by itself."""
        return self.plausible and (self.named.total() == 0 or self.named.total() >= MANY)

    def __str__(self) -> str:
        """Say how many files were found."""
        kinds = [f"{self.found[kind]} of {named} {kind}" for kind, named in (+self.named).items()]
        return f"{', '.join(kinds)} found" if kinds else "no row names a file in it"


def find_named_files(roots: Sequence[Root], named: Named) -> dict[str, Findings]:
    """Look for a sample of named files; return the findings by the name of the root.

    A bundle counts as named in each root that may hold it, unless another one holds it.

    Raises:
        StorageError: a root cannot be read.
    """
    findings = {root.name: Findings() for root in roots}
    private = private_root(roots)
    for kind, keys in named.files.items():
        findings[PRIVATE].named[kind] = len(keys)
        findings[PRIVATE].found[kind] = sum(private.store.exist(keys))
    held = {root.name: _held_bundles(root, named.bundles) for root in roots if root.bundles}
    for name, here in held.items():
        if name == PRIVATE and findings[PRIVATE].named.total():
            continue  # Single files say more: a row that names one had it.
        others = [bundles for other, bundles in held.items() if other != name]
        expected = [mine or not any(theirs) for mine, *theirs in zip(here, *others, strict=True)]
        findings[name].named["run bundles"] = sum(expected)
        findings[name].found["run bundles"] = sum(here)
    return findings


def _held_bundles(root: Root, bundles: Sequence[tuple[int, UUID]]) -> list[bool]:
    """Return for each bundle whether the root holds it."""
    held = [False] * len(bundles)
    for template in root.bundles:
        keys = [template.format(org_id=org_id, run_id=run_id) + "/" for org_id, run_id in bundles]
        held = [before or now for before, now in zip(held, root.store.exist(keys), strict=True)]
    return held
