"""Where the files of submissions and runs are stored (SPEC 4)."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import Engine

from maintenance.settings import Settings
from maintenance.storage.adoption import check_roots, trust_roots
from maintenance.storage.missing import FileCount
from maintenance.storage.permit import Permit
from maintenance.storage.roots import BUNDLE, OLDER_BUNDLE, Root, open_roots, private_root
from maintenance.storage.store import Deletion, Keep, Store, Tree

__all__ = ["BUNDLE", "OLDER_BUNDLE"]

OUTPUT_FILE = "output.json"
OUTPUT_DIRECTORIES = frozenset({"output", "outputs"})
ATTEMPTS = "attempts"


@dataclass(frozen=True)
class Bundle:
    """One run bundle: its organization and run, and its known outputs."""

    org_id: int
    run_id: UUID
    attempt_ids: frozenset[str]
    """The run's attempts, whose outputs are below `attempts/<attempt id>/`."""

    kept_uris: frozenset[str] = frozenset()
    """Addresses of objects (`gs://bucket/key`) that the run's rows name as outputs."""


@dataclass(frozen=True)
class Stores:
    """The stores of one Validibot.

    Attributes:
        private: uploaded files, port files, artifacts, evidence.
        bundles: each store that may hold bundles, with the template of a bundle's prefix in it.
        roots: all roots, with their markers.
        application: the identity that the markers name.
        count: the files that rows of the run name.
        engine: the application's database.
    """

    private: Store
    bundles: tuple[tuple[Store, str], ...]
    roots: tuple[Root, ...] = ()
    application: str = ""
    count: FileCount = field(default_factory=FileCount)
    engine: Engine | None = None

    def remove_files(self, keys: Sequence[str], permit: Permit) -> list[Deletion]:
        """Delete single files below the private root, and count them; see `Store.remove_files`."""
        outcomes = self.private.remove_files(keys, permit)
        self.count.add(keys, outcomes)
        return outcomes

    def measure_files(self, keys: Sequence[str]) -> list[Deletion]:
        """Return what `remove_files` would delete, and count it.

        Raises:
            StorageError: many files were named by rows, and none was found.
        """
        outcomes = self.private.measure_files(keys)
        self.count.add(keys, outcomes)
        self._check_count()
        return outcomes

    def verify(self) -> None:
        """Check that the storage is still the application's; called before each commit (SPEC 10.1).

        Every root is opened afresh by its path and must be the directory that was worked in, with
        the marker of the application. Files that were deleted meanwhile stay deleted; the caller
        must not commit that they are.

        Raises:
            StorageError: a root is gone, replaced, or not the application's; or many files were
                named by rows, and none was found.
            TransientStorageError: the service does not answer.
        """
        if self.roots:
            check_roots(self.roots, self.application)
        self._check_count()

    def _check_count(self) -> None:
        if self.engine is not None:
            self.count.check(self.engine, self.private)


@contextmanager
def open_stores(
    settings: Settings, engine: Engine, *, write: bool = True, count: FileCount | None = None
) -> Iterator[Stores]:
    """Open the stores that the settings name, for the length of the block.

    Args:
        settings: where the storage is.
        engine: the application's database, whose identity the markers of the roots must name.
        write: whether a root without a marker is marked if it is beyond doubt the application's; a
            dry run only checks that it is.
        count: counts the files that the rows of a run name, over all its slices.

    Raises:
        StorageError: a root or a bucket is missing, may not be read or is not the application's,
            or the backend's extra is not installed.
        TransientStorageError: the service does not answer.
        DatabaseError: a statement failed.
    """
    with ExitStack() as opened:
        roots = open_roots(settings, opened)
        application = trust_roots(engine, roots, write=write)
        private = private_root(roots).store
        bundles = [(root.store, template) for root in roots for template in root.bundles]
        # The current layout first, then the older one.
        bundles.sort(key=lambda pair: pair[1] != BUNDLE)
        yield Stores(
            private, tuple(bundles), tuple(roots), application, count or FileCount(), engine
        )


def copied_inputs(template: str, bundle: Bundle) -> Tree:
    """Return the copied inputs of a bundle: everything but the run's outputs."""
    return Tree(_prefix(template, bundle), keep_outputs(bundle.attempt_ids), bundle.kept_uris)


def whole_bundle(template: str, bundle: Bundle) -> Tree:
    """Return all of a bundle."""
    return Tree(_prefix(template, bundle))


def keep_outputs(attempt_ids: frozenset[str]) -> Keep:
    """Return the keep-list of a run whose outputs stay while its inputs are deleted.

    Kept are `output.json`, `output/...` and `outputs/...`, at the top and below
    `attempts/<attempt id>/` of the known attempts. Near misses (`output.json.bak`, `outputs2/`, the
    output of an unknown attempt) are deleted.
    """

    def keep(parts: tuple[str, ...], is_directory: bool) -> bool:
        if parts[0] == ATTEMPTS and len(parts) == 3:  # noqa: PLR2004 - attempts/<id>/<name>
            if parts[1] not in attempt_ids:
                return False
        elif len(parts) != 1:
            return False
        if is_directory:
            return parts[-1] in OUTPUT_DIRECTORIES
        return parts[-1] == OUTPUT_FILE

    return keep


def _prefix(template: str, bundle: Bundle) -> str:
    return template.format(org_id=bundle.org_id, run_id=bundle.run_id)
