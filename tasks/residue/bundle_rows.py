"""Which bundles are residue, by the rows of their runs and submissions (SPEC 10.12)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select

from maintenance.report import BatchResult
from maintenance.schema import attempts, runs, step_runs, submissions
from maintenance.schema.vocabulary import TERMINAL_RUN_STATUSES
from maintenance.storage.layout import Bundle, Stores, copied_inputs, whole_bundle
from maintenance.storage.store import Tree
from tasks.batching.arrays import any_uuid
from tasks.purge.submission_rows import output_uris
from tasks.residue.bundle_listing import HeldBundle, prefix_of, run_ids
from tasks.residue.options import BUNDLES_OF_RUNS, BUNDLES_WITHOUT_RUN, COPIED_INPUTS


@dataclass(frozen=True)
class Residue:
    """A bundle that is residue, or of which a part is.

    Attributes:
        bundle: where it is.
        kind: why it is residue.
        tree: the part that goes.
        owner: the row that is locked while it goes: the run, or the purged submission; None for a
            bundle without a run row.
    """

    bundle: HeldBundle
    kind: str
    tree: Tree
    owner: UUID | None = None


def find_residue(
    connection: Connection,
    stores: Stores,
    bundles: Sequence[HeldBundle],
    as_of: datetime,
    result: BatchResult,
) -> list[Residue]:
    """Return which of the bundles are residue by their rows; their files are not looked at.

    The bundle of a run that was purged goes as a whole, and of another run whose submission was
    purged the copied inputs go, as in a purge of ours. Bundles of active runs, and of submissions
    with an active run, are no residue. A run's bundle below the folder of another organization is
    left, with a warning.

    Args:
        connection: a transaction; a statement in it sees what was committed before.
        stores: where the bundles are.
        bundles: the bundles.
        as_of: stamps after this moment do not count.
        result: takes the warnings.
    """
    rows = _rows(connection, bundles, as_of)
    purged = [row for row in rows.values() if row.ended and row.content_purged]
    busy = _busy_submissions(connection, [row.submission_id for row in purged])
    mine = [row.id for row in purged if row.submission_id not in busy and not row.outputs_purged]
    attempt_ids = _attempts(connection, mine)
    uris = output_uris(connection, mine) if mine else {}
    copied = set(mine)
    found = []
    for one in bundles:
        row = rows.get(one.run_id)
        template = stores.bundles[one.place][1]
        if row is None:
            tree = whole_bundle(template, Bundle(one.org_id, one.run_id, frozenset()))
            found.append(Residue(one, BUNDLES_WITHOUT_RUN, tree))
        elif row.org_id != one.org_id:
            result.warnings.append(
                f"{prefix_of(stores, one)} belongs to a run of organization {row.org_id}, and stays"
            )
        elif row.ended and row.outputs_purged:
            tree = whole_bundle(template, Bundle(one.org_id, one.run_id, frozenset()))
            found.append(Residue(one, BUNDLES_OF_RUNS, tree, row.id))
        elif row.id in copied:
            kept = frozenset(uris.get(row.id, ()))
            known = Bundle(one.org_id, one.run_id, frozenset(attempt_ids[row.id]), kept)
            tree = copied_inputs(template, known)
            found.append(Residue(one, COPIED_INPUTS, tree, row.submission_id))
    return found


def existing_runs(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Return which of these runs have a row, in a fresh statement."""
    return set(connection.execute(select(runs.c.id).where(runs.c.id == any_uuid(ids))).scalars())


def lock_owners(connection: Connection, residue: Sequence[Residue]) -> set[UUID]:
    """Lock the purged runs and submissions of residue; return those that nothing else locks.

    The lock is FOR UPDATE: a run that is being created for a submission, and rows that are being
    written for a run, cannot be committed before it is released.
    """
    locked: set[UUID] = set()
    for kind, table in ((COPIED_INPUTS, submissions), (BUNDLES_OF_RUNS, runs)):
        ids = [one.owner for one in residue if one.kind == kind and one.owner is not None]
        query = select(table.c.id).where(table.c.id == any_uuid(ids)).order_by(table.c.id)
        locked.update(connection.execute(query.with_for_update(skip_locked=True)).scalars())
    return locked


def _rows(
    connection: Connection, bundles: Sequence[HeldBundle], as_of: datetime
) -> dict[UUID, Row[*tuple[Any, ...]]]:
    found = connection.execute(
        select(
            runs.c.id,
            runs.c.org_id,
            runs.c.submission_id,
            runs.c.status.in_(TERMINAL_RUN_STATUSES).label("ended"),
            (runs.c.output_purged_at <= as_of).label("outputs_purged"),
            (submissions.c.content_purged_at <= as_of).label("content_purged"),
        )
        .outerjoin(submissions, submissions.c.id == runs.c.submission_id)
        .where(runs.c.id == any_uuid(run_ids(bundles)))
    )
    return {row.id: row for row in found}


def _busy_submissions(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Return which of these submissions have an active run."""
    found = connection.execute(
        select(runs.c.submission_id).where(
            runs.c.submission_id == any_uuid(ids), runs.c.status.not_in(TERMINAL_RUN_STATUSES)
        )
    )
    return set(found.scalars())


def _attempts(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, set[str]]:
    found: dict[UUID, set[str]] = defaultdict(set)
    for run_id, attempt_id in connection.execute(
        select(step_runs.c.validation_run_id, attempts.c.id)
        .join(attempts, attempts.c.step_run_id == step_runs.c.id)
        .where(step_runs.c.validation_run_id == any_uuid(ids))
    ):
        found[run_id].add(str(attempt_id))
    return found
