"""One batch of claimed items: claim, re-check, act, commit; bisect when a row is refused.

The items are locked by the claim (FOR UPDATE SKIP LOCKED). What is to be done with them is given
as functions (`BatchSteps`), so that each job only says what is its own.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Column, Connection, Engine, Row, Select

from maintenance.database import transaction
from maintenance.errors import LockTimeout
from maintenance.report import BatchResult, NextAttempt
from tasks.batching.arrays import any_uuid
from tasks.batching.bisection import FAULTS, Fault, Steps, blame, left, split


class Item(Protocol):
    """A row of a selection."""

    id: UUID
    moment: datetime
    """With `id`, its place in the order of the selection."""
    error: str | None
    """Why it failed in this batch, if it did."""
    retry: NextAttempt | None
    """Its next attempt, if that is recorded."""


T = TypeVar("T", bound=Item)


@dataclass(frozen=True)
class BatchSteps(Generic[T]):
    """What is done with the items of a batch.

    Attributes:
        kind: what an item is called in the report.
        key: the column of the claim that identifies an item.
        read: makes an item of a row of the claim.
        act: re-checks the claimed items and changes them, in the transaction of the claim. Sets
            `error` of each item that fails.
        preview: returns what `act` would do, and changes nothing.
        after: called once the batch is committed, and with each item that a refused row belongs
            to; may add to an item's `error`. None for nothing.
        refused: returns what to add to the error of an item whose row is refused, given the item as
            its attempt left it; empty for nothing. None for nothing, ever.
    """

    kind: str
    key: Column[Any]
    read: Callable[[Row[*tuple[Any, ...]]], T]
    act: Callable[[Connection, Sequence[T]], BatchResult]
    preview: Callable[[Connection, Sequence[T]], BatchResult]
    after: Callable[[Sequence[T]], None] | None = None
    refused: Callable[[T], str] | None = None


def work_claim(
    engine: Engine, steps: BatchSteps[T], claim: Select[Any]
) -> tuple[list[T], BatchResult]:
    """Work on the items that `claim` selects and locks.

    When the database refuses a row, a statement on it exceeds its time-out, or the application
    holds a lock on it, the batch is bisected: that item fails or is deferred, the others are done.

    Returns:
        The claimed items in the order of the claim, and what became of them.

    Raises:
        DatabaseError: the database failed for a reason that no row is at fault for.
    """
    latest: dict[UUID, T] = {}

    def attempt(claim: Select[Any], claimed: list[T]) -> BatchResult:
        latest.clear()
        with transaction(engine) as connection:
            result = _read(connection, steps, claim, claimed)
            latest.update((item.id, item) for item in claimed)
            if claimed:
                result += steps.act(connection, claimed)
        return _settle(steps, claimed, result)

    def alone(item: T, fault: Fault) -> BatchResult:
        if isinstance(fault, LockTimeout):
            return blame(steps.kind, item.id, fault)
        tried = latest.get(item.id)
        note = steps.refused(tried) if steps.refused and tried else ""
        item.error = f"{fault}{note}"
        result = selected([item.id])
        result.refused = 1
        return _settle(steps, [item], result)

    return _bisected(steps, claim, attempt, alone)


def preview_claim(
    engine: Engine, steps: BatchSteps[T], page: Select[Any]
) -> tuple[list[T], BatchResult]:
    """Return the items of a page, and what working on them would do; in READ ONLY transactions."""

    def attempt(page: Select[Any], items: list[T]) -> BatchResult:
        with transaction(engine, read_only=True) as connection:
            return preview_items(connection, steps, page, items)

    def alone(item: T, fault: Fault) -> BatchResult:
        return blame(steps.kind, item.id, fault)

    return _bisected(steps, page, attempt, alone)


def preview_items(
    connection: Connection, steps: BatchSteps[T], page: Select[Any], items: list[T]
) -> BatchResult:
    """Do the same in a given transaction; `items` gets those of the page."""
    result = _read(connection, steps, page, items)
    if items:
        result += steps.preview(connection, items)
    return result


def selected(ids: Iterable[UUID]) -> BatchResult:
    """Return the result that begins with these items being selected."""
    return BatchResult.selecting(one.int for one in ids)


def _bisected(
    steps: BatchSteps[T],
    claim: Select[Any],
    attempt: Callable[[Select[Any], list[T]], BatchResult],
    alone: Callable[[T, Fault], BatchResult],
) -> tuple[list[T], BatchResult]:
    """Attempt a claim, in halves when a row of it is refused; `attempt` fills the list."""

    def again(part: Sequence[T]) -> BatchResult:
        return attempt(claim.where(steps.key == any_uuid([item.id for item in part])), [])

    def untried(items: Sequence[T], _fault: Fault) -> BatchResult:
        return left(item.id for item in items)

    items: list[T] = []
    try:
        return items, attempt(claim, items)
    except FAULTS as fault:
        if not items:
            raise
        return items, split(items, fault, Steps(again, alone, untried))


def _read(
    connection: Connection, steps: BatchSteps[T], claim: Select[Any], items: list[T]
) -> BatchResult:
    items += [steps.read(row) for row in connection.execute(claim)]
    return selected(item.id for item in items)


def _settle(steps: BatchSteps[T], items: Sequence[T], result: BatchResult) -> BatchResult:
    """Call `after`, then count the items that failed."""
    if items and steps.after:
        steps.after(items)
    for item in items:
        if item.error is not None:
            result.fail(f"{steps.kind} {item.id}", item.error, item.retry)
    return result
