"""Options of a purge that all its tasks share."""

from dataclasses import dataclass

from maintenance.budget import BatchSizer
from maintenance.settings import settings


@dataclass(frozen=True)
class PurgeOptions:
    """How a run works.

    Attributes:
        job: the job's name, which its database connections carry.
        batch_size: most items of a batch.
        retry_failed: also take up items that wait for their next attempt after a failure.
    """

    job: str
    batch_size: int
    retry_failed: bool = False


def batch_sizer(options: PurgeOptions) -> BatchSizer:
    """Return the sizer of batches that change rows: it starts small and adapts."""
    return BatchSizer(options.batch_size, settings().batch_seconds)


def page_sizer(rows: int) -> BatchSizer:
    """Return the sizer of pages that are mostly read: it starts at full size."""
    return BatchSizer(rows, settings().batch_seconds, rows)


def block_sizer() -> BatchSizer:
    """Return the sizer of a pass over blocks, whose batches are ranges and not rows."""
    return BatchSizer(1, settings().batch_seconds)
