"""Reclaiming run bundles: of purged runs, of purged submissions, and without a run row."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

from prefect import task
from sqlalchemy import Connection

from maintenance.budget import SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.database import transaction
from maintenance.report import BatchResult
from maintenance.storage.store import ABSENT
from tasks.batching.bisection import Fault, Steps, bisect, blame, left
from tasks.batching.claims import selected
from tasks.batching.slices import Batch, Slice, work_slice
from tasks.purge.options import Purge, open_purge, page_sizer
from tasks.residue.bundle_listing import BundleCursor, HeldBundle, next_bundles, prefix_of
from tasks.residue.bundle_rows import Residue, find_residue, lock_owners
from tasks.residue.deletion import Outcomes, delete_trees, delete_without_run, measure_trees
from tasks.residue.options import (
    BUNDLES_OF_RUNS,
    BUNDLES_WITHOUT_RUN,
    COPIED_INPUTS,
    ResidueOptions,
    of_kind,
)
from tasks.retrying import TASK_OPTIONS

OLD = timedelta(days=7)
"""A bundle without a run row is residue when its newest file is older than this."""

KIND = "run bundle"
"""What a bundle is called in the report."""

T = TypeVar("T")
Key = tuple[UUID, str]


@task(name="reclaim run bundles", **TASK_OPTIONS)
def reclaim_bundles(
    cutoff: Cutoff, cursor: BundleCursor | None, share: SliceBudget, options: ResidueOptions
) -> Slice[BundleCursor]:
    """Delete the run bundles that are residue (SPEC 10.12); in a dry run count them.

    Raises:
        DatabaseError: the first batch of the slice failed.
        StorageError: the storage as a whole cannot be used, or is not the application's.
    """
    with open_purge(options, dry_run=options.dry_run) as purge:

        def one_batch(cursor: BundleCursor | None, rows: int) -> Batch[BundleCursor]:
            result = BatchResult()
            bundles, following = next_bundles(purge.stores, cursor, rows, result)
            found: list[Residue] = []
            if bundles:
                result += _bisect(
                    bundles,
                    lambda part: _find(purge, part, cutoff, found),
                    partial(_named, purge),
                )
            if found and options.dry_run:
                result += _counted(purge, measure_trees(purge, found), dry_run=True)
            elif found:
                result += _reclaim(purge, found, cutoff.as_of)
            return Batch(result, following, exhausted=following.passed)

        return work_slice(one_batch, cursor, share, page_sizer(options.batch_size))


def _find(
    purge: Purge, bundles: Sequence[HeldBundle], cutoff: Cutoff, found: list[Residue]
) -> BatchResult:
    """Add to `found` the bundles that are residue by their rows and by their files."""
    result = BatchResult()
    with transaction(purge.engine, read_only=True) as connection:
        candidates = find_residue(connection, purge.stores, bundles, cutoff.as_of, result)
    unowned = [one for one in candidates if one.kind == BUNDLES_WITHOUT_RUN]
    copied = [one for one in candidates if one.kind == COPIED_INPUTS]
    found += [one for one in candidates if one.kind == BUNDLES_OF_RUNS]
    found += [one for one, size in measure_trees(purge, copied) if size != ABSENT]
    found += _only_old(purge, unowned, cutoff.as_of, result)
    return result


def _only_old(
    purge: Purge, residue: Sequence[Residue], as_of: datetime, result: BatchResult
) -> list[Residue]:
    """Return the bundles whose newest file is older than a week; an unknown age is a failure."""
    old = []
    for place, (store, _) in enumerate(purge.stores.bundles):
        here = [one for one in residue if one.bundle.place == place]
        ages = store.newest([one.tree.prefix for one in here])
        for one, newest in zip(here, ages, strict=True):
            if newest.error is not None:
                result += selected([one.bundle.run_id])
                name = _named(purge, one.bundle)[1]
                result.fail(f"{KIND} {name}", newest.error)
            elif newest.moment is not None and newest.moment < as_of - OLD:
                old.append(one)
    return old


def _reclaim(purge: Purge, found: Sequence[Residue], as_of: datetime) -> BatchResult:
    owned = [one for one in found if one.owner is not None]
    unowned = [one for one in found if one.owner is None]

    def delete_owned(part: Sequence[Residue]) -> BatchResult:
        with transaction(purge.engine) as connection:
            return _delete_owned(purge, connection, part, as_of)

    def delete_unowned(part: Sequence[Residue]) -> BatchResult:
        result = BatchResult()
        old = _only_old(purge, part, as_of, result)
        with transaction(purge.engine) as connection:
            outcomes = delete_without_run(purge, connection, old)
            purge.stores.verify()
        result += _counted(purge, outcomes)
        result += left(
            one.run_id for one in {one.bundle for one in part} - {one.bundle for one, _ in outcomes}
        )
        return result

    def name(one: Residue) -> Key:
        return _named(purge, one.bundle)

    result = BatchResult()
    if owned:
        result += _bisect(owned, delete_owned, name)
    if unowned:
        result += _bisect(unowned, delete_unowned, name)
    return result


def _delete_owned(
    purge: Purge, connection: Connection, residue: Sequence[Residue], as_of: datetime
) -> BatchResult:
    """Lock the rows, look at them again in a new statement, and delete what is still residue."""
    locked = lock_owners(connection, residue)
    mine = [one for one in residue if one.owner in locked]
    result = BatchResult()
    bundles = [one.bundle for one in mine]
    known = {
        (one.bundle, one.kind): one
        for one in find_residue(connection, purge.stores, bundles, as_of, result)
    }
    again = [known[key] for one in mine if (key := (one.bundle, one.kind)) in known]
    outcomes = delete_trees(purge, again, purge.permit(connection))
    purge.stores.verify()
    result += _counted(purge, outcomes)
    others = {one.bundle for one in residue} - {one.bundle for one in again}
    result += left(one.run_id for one in others)
    return result


def _counted(purge: Purge, outcomes: Outcomes, *, dry_run: bool = False) -> BatchResult:
    """Return the result of bundles that were deleted, or measured."""
    total = BatchResult()
    for kind in sorted({one.kind for one, _ in outcomes}):
        mine = [(one, outcome) for one, outcome in outcomes if one.kind == kind]
        result = selected(one.bundle.run_id for one, _ in mine)
        for one, outcome in mine:
            result.files += outcome.files
            result.bytes += outcome.bytes
            if outcome.error is not None:
                name = _named(purge, one.bundle)[1]
                result.fail(f"{KIND} {name}", outcome.error)
            elif not dry_run:
                result.done += 1
        total += of_kind(kind, result)
    return total


def _bisect(
    bundles: Sequence[T], attempt: Callable[[Sequence[T]], BatchResult], held: Callable[[T], Key]
) -> BatchResult:
    """Attempt a batch; in halves, when one of its rows is refused.

    Args:
        bundles: the batch.
        attempt: works on these bundles in transactions of its own.
        held: returns a bundle's run and what the report calls it.
    """

    def alone(one: T, fault: Fault) -> BatchResult:
        run_id, name = held(one)
        return blame(KIND, run_id, fault, name)

    def untried(part: Sequence[T], _fault: Fault) -> BatchResult:
        return left(held(one)[0] for one in part)

    return bisect(bundles, Steps(attempt, alone, untried))


def _named(purge: Purge, bundle: HeldBundle) -> Key:
    """Return a bundle's run, and where it is (SPEC 10.15)."""
    place = purge.stores.bundles[bundle.place][0].place
    return bundle.run_id, f"{prefix_of(purge.stores, bundle)} in {place}"
