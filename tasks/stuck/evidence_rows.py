"""The rows that name a run's evidence manifest, or say why there is none (SPEC 6.4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, literal, select
from sqlalchemy.dialects.postgresql import Insert, insert

from maintenance.evidence import MAX_ERROR_CHARACTERS, SCHEMA
from maintenance.outside_text import one_line
from maintenance.schema import evidence, runs
from maintenance.schema.vocabulary import EvidenceAvailability, RunStatus
from tasks.batching.arrays import text_array, uuid_array
from tasks.stuck.evidence_facts import is_generated

COLUMNS = (
    "created",
    "modified",
    "id",
    "schema_version",
    "manifest_path",
    "manifest_hash",
    "availability",
    "generation_error",
    "run_id",
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of the evidence of one run.

    Attributes:
        run_id: the run.
        output_hash: its output hash, blank when none could be computed.
        key: the manifest's key in the private root, blank without a manifest.
        sha256: the hash of the manifest's bytes, blank without a manifest.
        cause: why there is no manifest, blank with one.
    """

    run_id: UUID
    output_hash: str = ""
    key: str = ""
    sha256: str = ""
    cause: str = ""


def write_receipts(connection: Connection, receipts: Sequence[Receipt]) -> int:
    """Write the evidence rows of runs that are still TIMED_OUT; return how many were written.

    A row that names a manifest is not changed. A failure that is recorded already, with the same
    cause, is not written again.
    """
    written = [receipt for receipt in receipts if not receipt.cause]
    failed = {receipt.run_id: receipt.cause for receipt in receipts if receipt.cause}
    rows = _write_generated(connection, written) if written else 0
    return rows + (write_failures(connection, failed) if failed else 0)


def write_failures(connection: Connection, causes: Mapping[UUID, str]) -> int:
    """Record why runs have no evidence; return how many rows were written."""
    texts = [one_line(cause, MAX_ERROR_CHARACTERS) for cause in causes.values()]
    failed = select(
        func.unnest(uuid_array(list(causes))).label("run_id"),
        func.unnest(text_array(texts)).label("cause"),
    ).subquery("failed")
    statement = _insert(
        failed, literal(""), literal(""), EvidenceAvailability.FAILED, failed.c.cause
    )
    new = statement.excluded
    differs = (evidence.c.availability != new.availability) | (
        evidence.c.generation_error != new.generation_error
    )
    values = ("modified", "schema_version", "availability", "generation_error")
    return _write(connection, statement, values, ~is_generated() & differs)


def _write_generated(connection: Connection, receipts: Sequence[Receipt]) -> int:
    made = select(
        func.unnest(uuid_array([one.run_id for one in receipts])).label("run_id"),
        func.unnest(text_array([one.key for one in receipts])).label("key"),
        func.unnest(text_array([one.sha256 for one in receipts])).label("sha256"),
    ).subquery("made")
    statement = _insert(
        made, made.c.key, made.c.sha256, EvidenceAvailability.GENERATED, literal("")
    )
    values = (
        "modified",
        "schema_version",
        "manifest_path",
        "manifest_hash",
        "availability",
        "generation_error",
    )
    return _write(connection, statement, values, ~is_generated())


def _insert(
    given: Any,  # noqa: ANN401 - a subquery with the column run_id
    key: Any,  # noqa: ANN401 - and three SQL values
    sha256: Any,  # noqa: ANN401
    availability: EvidenceAvailability,
    cause: Any,  # noqa: ANN401
) -> Insert:
    now = func.statement_timestamp()
    rows = (
        select(
            now,
            now,
            func.gen_random_uuid(),
            literal(SCHEMA),
            key,
            sha256,
            literal(str(availability)),
            cause,
            given.c.run_id,
        )
        .join(runs, runs.c.id == given.c.run_id)
        .where(runs.c.status == RunStatus.TIMED_OUT)
    )
    return insert(evidence).from_select(list(COLUMNS), rows)


def _write(
    connection: Connection,
    statement: Insert,
    values: Sequence[str],
    condition: Any,  # noqa: ANN401 - an SQL condition
) -> int:
    written = connection.execute(
        statement.on_conflict_do_update(
            index_elements=[evidence.c.run_id],
            set_={name: statement.excluded[name] for name in values},
            where=condition,
        ).returning(evidence.c.run_id)
    )
    return len(written.all())
