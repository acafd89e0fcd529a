"""Trusting the storage roots of an application, by their markers (SPEC 10.1).

A root with the marker of the application is trusted. A root without a marker is adopted, that is
marked, when the files that rows name are found in it. A run adopts by itself only what is beyond
doubt; `python -m maintenance storage adopt` also adopts a root in which rows name few files.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from maintenance.database import transaction
from maintenance.errors import StorageError
from maintenance.storage.findings import Findings, find_named_files
from maintenance.storage.identity import application_id
from maintenance.storage.marker import MARKER, Marker
from maintenance.storage.named_files import sample_named_files
from maintenance.storage.roots import PRIVATE, Root

ADOPT = "python -m maintenance storage adopt"
ACTION = (
    "mount the volume of the application or correct the storage settings; if this is its storage,"
    f" run `{ADOPT}`"
)
UNMARKED = f"has no marker ({MARKER})"
ABSENT = "is absent"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RootState:
    """A root, and why it is not trusted: None when it is."""

    root: Root
    problem: str | None = None

    @property
    def adoptable(self) -> bool:
        """Whether the root may be adopted: it has no marker, or may be absent and is."""
        return self.problem in (UNMARKED, ABSENT)


@dataclass(frozen=True)
class Adoption:
    """What speaks for and against adopting a root."""

    state: RootState
    findings: Findings

    @property
    def refused(self) -> bool:
        """Whether only force adopts the root."""
        if self.state.adoptable:
            return not self.findings.plausible
        return self.state.problem is not None


def read_states(roots: Sequence[Root], application: str) -> list[RootState]:
    """Read the markers of all roots, through freshly opened paths.

    Raises:
        StorageError: a root is gone, or its marker cannot be read.
    """
    markers = {root.name: read_marker(root) for root in roots}
    private = markers.get(PRIVATE)
    known = set(private.roots) if private and private.application == application else set()
    states = []
    for root in roots:
        marker = markers[root.name]
        problem: str | None = None
        if root.store.absent:
            # That a root is absent is accepted once, when the private root is adopted.
            problem = ABSENT if private is None else None
            if root.name in known:
                problem = "is missing, and was there before"
        elif marker is None:
            problem = UNMARKED
        elif marker.application != application:
            problem = f"belongs to another application, says its marker ({MARKER})"
        elif marker.root != root.name:
            problem = f"is the {marker.root} root of this application, says its marker ({MARKER})"
        elif gone := known.difference(markers) if root.name == PRIVATE else None:
            problem = (
                f"belongs to an application with a {' and '.join(sorted(gone))} root, which the"
                " settings do not name (DATA_STORAGE_ROOT)"
            )
        states.append(RootState(root, problem))
    return states


def check_roots(roots: Sequence[Root], application: str) -> None:
    """Check that all roots are still trusted.

    Raises:
        StorageError: a root is not; the text says what to do.
    """
    for state in read_states(roots, application):
        if state.problem is not None:
            raise _refusal(state)


def trust_roots(engine: Engine, roots: Sequence[Root], *, write: bool) -> str:
    """Check that all roots are trusted, and adopt those without a marker if that is beyond doubt.

    Args:
        engine: the application's database.
        roots: the roots.
        write: whether markers are written; otherwise it is only checked that they could be.

    Returns:
        The identity of the application.

    Raises:
        StorageError: a root is not trusted; the text says what to do.
        DatabaseError: a statement failed.
    """
    application = application_of(engine)
    states = read_states(roots, application)
    for state in states:
        if state.problem is not None and not state.adoptable:
            raise _refusal(state)
    new = [state for state in states if state.adoptable]
    if not new:
        return application
    findings = _findings(engine, roots)
    for state in new:
        if not findings[state.root.name].certain:
            raise _refusal(state, findings[state.root.name])
    if write:
        mark_roots(roots, application)
        for state in new:
            place, found = state.root.store.place, findings[state.root.name]
            logger.warning("%s %s: adopted; %s", place, state.problem, found)
    return application


def examine_roots(engine: Engine, roots: Sequence[Root]) -> list[Adoption]:
    """Return for each root whether it is trusted; if one is not, how many named files are in each.

    Raises:
        StorageError: a root cannot be read.
        DatabaseError: a statement failed.
    """
    states = read_states(roots, application_of(engine))
    suspect = any(state.problem for state in states)
    findings = _findings(engine, roots) if suspect else {}
    return [Adoption(one, findings.get(one.root.name, Findings())) for one in states]


def adopt_roots(
    engine: Engine, roots: Sequence[Root], *, dry_run: bool, force: bool
) -> list[Adoption]:
    """Adopt all roots at an operator's request; nothing is written when one is refused.

    Args:
        engine: the application's database.
        roots: the roots.
        dry_run: write nothing.
        force: adopt a root even if named files are not in it, or if another application has it.

    Returns:
        What was found before.

    Raises:
        StorageError: a root cannot be read or written.
        DatabaseError: a statement failed.
    """
    found = examine_roots(engine, roots)
    if not dry_run and (force or not any(one.refused for one in found)):
        mark_roots(roots, application_of(engine))
    return found


def mark_roots(roots: Sequence[Root], application: str) -> None:
    """Write the markers of all roots that are there, that of the private root last.

    What the private root's marker remembers of this application's database is kept.

    Raises:
        StorageError: a marker cannot be written.
    """
    present = [root for root in roots if not root.store.absent]
    names = tuple(sorted(root.name for root in present))
    for root in reversed(present):
        marker = Marker(application, root.name)
        if root.name == PRIVATE:
            old = read_marker(root)
            known = old.database if old and old.application == application else None
            marker = Marker(application, root.name, names, known)
        root.store.write_marker(marker.content())


def application_of(engine: Engine) -> str:
    """Return the identity of the application.

    Raises:
        DatabaseError: a statement failed.
    """
    with transaction(engine, read_only=True) as connection:
        return application_id(connection)


def _findings(engine: Engine, roots: Sequence[Root]) -> dict[str, Findings]:
    with transaction(engine, read_only=True) as connection:
        named = sample_named_files(connection)
    return find_named_files(roots, named)


def read_marker(root: Root) -> Marker | None:
    """Return the marker of a root, None when it has none; another file of its name names nothing.

    Raises:
        StorageError: the root is gone, or its marker cannot be read.
    """
    content = root.store.read_marker()
    if content is None:
        return None
    # What is no marker of ours was not written by this application, either.
    return Marker.parse(content) or Marker("", root.name)


def _refusal(state: RootState, findings: Findings | None = None) -> StorageError:
    found = f": {findings}" if findings else ""
    place = state.root.store.place
    return StorageError(f"{place} {state.problem}{found}; nothing was stamped; {ACTION}")
