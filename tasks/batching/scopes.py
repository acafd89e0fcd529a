"""Work on all rows that a condition selects, without claiming them one by one; with bisection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Connection, Engine, select

from maintenance.database import transaction
from maintenance.report import BatchResult
from tasks.batching.arrays import any_uuid
from tasks.batching.bisection import FAULTS, Fault, Steps, blame, left_untried, split


@dataclass(frozen=True)
class ScopeWork:
    """What is done with the rows in a scope.

    Attributes:
        engine: the database.
        kind: what a row is called in the report.
        key: its identifier; names the table, too.
        act: acts on the rows of its table that a condition selects, in one transaction.
        read_only: the transaction is READ ONLY.
    """

    engine: Engine
    kind: str
    key: Column[Any]
    act: Callable[[Connection, ColumnElement[bool]], BatchResult]
    read_only: bool = False


def work_rows(work: ScopeWork, ids: Sequence[UUID]) -> BatchResult:
    """Act on these rows; see `work_scope`."""
    return work_scope(work, work.key == any_uuid(ids))


def work_scope(work: ScopeWork, scope: ColumnElement[bool]) -> BatchResult:
    """Act on the rows in scope; a row that is refused fails or is deferred, the others are done.

    Args:
        work: what is done.
        scope: a condition that the database can evaluate whatever the rows hold (no arithmetic):
            after a fault it selects the rows that are bisected.
    """

    def attempt(condition: ColumnElement[bool]) -> BatchResult:
        with transaction(work.engine, read_only=work.read_only) as connection:
            return work.act(connection, condition)

    def part_of(ids: Sequence[UUID]) -> BatchResult:
        return attempt(work.key == any_uuid(ids))

    def alone(key: UUID, fault: Fault) -> BatchResult:
        return blame(work.kind, key, fault)

    try:
        return attempt(scope)
    except FAULTS as fault:
        with transaction(work.engine, read_only=True) as connection:
            ids = [row[0] for row in connection.execute(select(work.key).where(scope))]
        if not ids:
            raise
        return split(ids, fault, Steps(part_of, alone, left_untried))
