"""Where the bytes of submissions and runs are (SPEC 4)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from maintenance.errors import StorageError
from maintenance.settings import Settings
from maintenance.storage.local import LocalStore
from maintenance.storage.store import Keep, Store, Tree

BUNDLE = "runs/{org_id}/{run_id}"
"""A run's bundle, as the container workers write it, below the bundle root."""

OLDER_BUNDLE = "files/runs/{org_id}/{run_id}"
"""The same in the older layout, below the public root."""

OUTPUT_FILE = "output.json"
OUTPUT_DIRECTORIES = frozenset({"output", "outputs"})
ATTEMPTS = "attempts"


@dataclass(frozen=True)
class Bundle:
    """One run's bundle: whose it is, and the attempts whose outputs are known."""

    org_id: int
    run_id: UUID
    attempt_ids: frozenset[str]


@dataclass(frozen=True)
class Stores:
    """The stores of one Validibot."""

    private: Store
    bundles: tuple[tuple[Store, str], ...]
    """Each store that may hold bundles, with the template of a bundle's prefix in it."""


@contextmanager
def open_stores(settings: Settings) -> Iterator[Stores]:
    """Open the stores that the settings name, for the length of the block.

    Raises:
        StorageError: a root is missing, or the backend is not available.
    """
    if settings.data_storage_backend != "local":
        message = (
            f"DATA_STORAGE_BACKEND={settings.data_storage_backend}: this version deletes from"
            " local storage only; nothing was touched"
        )
        raise StorageError(message)
    opened: list[LocalStore] = []
    try:
        for root, required in (
            (settings.private_root, True),
            (settings.bundle_root, True),
            (settings.public_root, False),
        ):
            opened.append(LocalStore(root, required=required))
        private, current, older = opened
        yield Stores(private, ((current, BUNDLE), (older, OLDER_BUNDLE)))
    finally:
        for store in opened:
            store.close()


def copied_inputs(template: str, bundle: Bundle) -> Tree:
    """Return the part of a bundle that holds copied inputs: all but the run's outputs."""
    return Tree(_prefix(template, bundle), keep_outputs(bundle.attempt_ids))


def whole_bundle(template: str, bundle: Bundle) -> Tree:
    """Return all of a bundle."""
    return Tree(_prefix(template, bundle))


def keep_outputs(attempt_ids: frozenset[str]) -> Keep:
    """Return the keep-list of a run whose outputs stay while its inputs go.

    Kept are `output.json`, `output/...` and `outputs/...`, at the top and below
    `attempts/<attempt id>/` of the attempts that are known. Near misses (`output.json.bak`,
    `outputs2/`, the output of an unknown attempt) are not.
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
