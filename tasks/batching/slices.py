"""A slice: a few seconds of batches, the unit that Prefect sees and retries.

A batch is a transaction of its own. A slice holds as many as fit into its time, so that the cost of
a task run is small compared to its work. When a transient error ends a slice after its first batch,
the results so far are returned; if the error persists, the next slice fails with it in its first
batch, and Prefect retries. A stop request ends a slice after the current batch.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from maintenance import stop_request
from maintenance.budget import BatchSizer, SliceBudget
from maintenance.errors import GuardLost
from maintenance.report import BatchResult
from maintenance.transient import is_transient

C = TypeVar("C")


@dataclass(frozen=True)
class Batch(Generic[C]):
    """What one batch did, where the next one starts, and whether there is one."""

    result: BatchResult
    cursor: C | None
    exhausted: bool


@dataclass
class Slice(Generic[C]):
    """What a slice did; `cursor` is where the next one starts.

    `batches` counts those with selected items, and `rows` is the size of the next batch.
    """

    cursor: C | None
    result: BatchResult = field(default_factory=BatchResult)
    exhausted: bool = False
    interrupted: str | None = None
    batches: int = 0
    rows: int | None = None


def work_slice(
    one_batch: Callable[[C | None, int], Batch[C]],
    cursor: C | None,
    share: SliceBudget,
    sizer: BatchSizer,
) -> Slice[C]:
    """Call `one_batch(cursor, rows)` until nothing is left, the share is used up, or a stop.

    Raises:
        Exception: the first batch failed, or a later one with an error that is not transient. A
            transient error of a later one ends the slice instead.
    """
    done: Slice[C] = Slice(cursor)
    clock = share.clock()
    sizer.size = min(share.first_rows or sizer.size, sizer.maximum)
    stop_request.begin_work()
    while not done.exhausted and not stop_request.requested() and clock.another():
        started = time.monotonic()
        try:
            batch = one_batch(done.cursor, sizer.size)
        except Exception as error:
            passes = is_transient(error) or isinstance(error, GuardLost)
            if not (done.result.batches and passes):
                raise
            done.interrupted = str(error)
            break
        sizer.took(batch.result.selected, time.monotonic() - started)
        clock.count(batch.result.selected)
        done.result += batch.result
        done.result.batches += 1
        done.cursor = batch.cursor
        done.exhausted = batch.exhausted
    done.batches, done.rows = clock.batches, sizer.size
    return done
