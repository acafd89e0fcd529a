"""A sample of the files and run bundles that rows name, to recognize a storage by (SPEC 10.1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, FromClause, Select, Table, func, or_, select, text

from maintenance.schema import (
    artifacts,
    attempts,
    evidence,
    input_files,
    runs,
    step_runs,
    submissions,
)
from maintenance.schema.vocabulary import TERMINAL_RUN_STATUSES, EvidenceAvailability

SAMPLED_PAGES = 2_000
"""Pages of a table that a sample is drawn from, if they name enough files."""

MANY = 20
"""Files that a sample must hold to tell something about a storage."""

SAMPLE = 100
"""Files of a sample, for each kind."""

SECONDS = 300
"""Statement time-out of a sample, which may have to read whole tables."""

Query = Callable[[FromClause], Select[Any]]
"""Makes the query for what the rows of a table, or of a sample of it, name."""


@dataclass(frozen=True)
class Named:
    """A sample of what rows name.

    Attributes:
        files: keys below the private root, by kind.
        bundles: organization and id of ended runs that have a bundle.
    """

    files: dict[str, list[str]]
    bundles: list[tuple[int, UUID]]


def sample_named_files(connection: Connection) -> Named:
    """Return a random sample of what rows name; all of it where it is little.

    Raises:
        DBAPIError: a statement failed.
    """
    connection.execute(
        select(func.set_config("statement_timeout", f"{SECONDS}s", True))  # noqa: FBT003 - is_local
    )
    files = {
        kind: [row[0] for row in _sample(connection, table, query)]
        for kind, (table, query) in NAMING.items()
    }
    return Named(files, [(row[0], row[1]) for row in _sample(connection, attempts, _bundles)])


def _sample(connection: Connection, table: Table, query: Query) -> Sequence[Any]:
    """Return up to SAMPLE rows of a query, from some pages of the table if they hold MANY."""
    share = connection.execute(PERCENT, {"pages": SAMPLED_PAGES, "table": table.name}).scalar_one()
    found: Sequence[Any] = ()
    if share < 100:  # noqa: PLR2004 - per cent
        found = connection.execute(_some(query(table.tablesample(func.system(share))))).all()
    if len(found) < MANY:
        found = connection.execute(_some(query(table))).all()
    return found


PERCENT = text(
    "SELECT CAST(100.0 * :pages * CAST(current_setting('block_size') AS integer)"
    " / greatest(pg_relation_size(to_regclass(:table)), 1) AS double precision)"
)


def _some(query: Select[Any]) -> Select[Any]:
    named = query.subquery()
    return select(named).order_by(func.random()).limit(SAMPLE)


def _submission_files(table: FromClause) -> Select[Any]:
    kept = table.c.content_purged_at.is_(None)
    return select(table.c.input_file).where(table.c.input_file != "", kept)


def _port_files(table: FromClause) -> Select[Any]:
    kept = table.c.file_purged_at.is_(None)
    return select(table.c.input_file).where(table.c.input_file != "", kept)


def _artifacts(table: FromClause) -> Select[Any]:
    return select(table.c.file).where(table.c.file != "")


def _manifests(table: FromClause) -> Select[Any]:
    generated = table.c.availability == EvidenceAvailability.GENERATED
    return select(table.c.manifest_path).where(table.c.manifest_path != "", generated)


def _bundles(table: FromClause) -> Select[Any]:
    """Return the runs of attempts that name something in a bundle."""
    named = or_(
        table.c.execution_bundle_uri != "",
        table.c.input_envelope_uri != "",
        table.c.output_envelope_uri != "",
    )
    return (
        select(runs.c.org_id, runs.c.id)
        .join(step_runs, step_runs.c.validation_run_id == runs.c.id)
        .join(table, table.c.step_run_id == step_runs.c.id)
        .where(named, runs.c.output_purged_at.is_(None), runs.c.status.in_(TERMINAL_RUN_STATUSES))
        .distinct()
    )


NAMING: dict[str, tuple[Table, Query]] = {
    "submission files": (submissions, _submission_files),
    "port files": (input_files, _port_files),
    "artifacts": (artifacts, _artifacts),
    "evidence manifests": (evidence, _manifests),
}
"""For each kind of single files, the table and the query for their keys."""
