"""Options of a purge that all its tasks share."""

from dataclasses import dataclass


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
