"""The list of jobs: what `python -m flows` runs, and what is deployed."""

from dataclasses import dataclass
from typing import Any

from prefect import Flow

from flows import (
    cleanup_callback_receipts,
    cleanup_idempotency_keys,
    cleanup_orphaned_containers,
    cleanup_stuck_runs,
    clear_sessions,
    process_purge_retries,
    purge_expired_outputs,
    purge_expired_submissions,
)
from maintenance.expiring import CALLBACK_RECEIPTS, IDEMPOTENCY_KEYS, SESSIONS, ExpiringTable


@dataclass(frozen=True)
class Job:
    """One job: its flow, the cron line of its default schedule (UTC), what it deletes by age."""

    flow: Flow[..., Any]
    schedule: str
    expiring: ExpiringTable | None = None

    @property
    def name(self) -> str:
        """The job's name, which is its flow's."""
        return self.flow.name

    @property
    def description(self) -> str:
        """The first line of the flow's manual, and what is deleted by age alone."""
        line = (self.flow.fn.__doc__ or "").strip().splitlines()[0]
        return f"{line} ({self.expiring})" if self.expiring else line


JOBS = {
    job.name: job
    for job in (
        Job(
            purge_expired_submissions.purge_expired_submissions, purge_expired_submissions.SCHEDULE
        ),
        Job(purge_expired_outputs.purge_expired_outputs, purge_expired_outputs.SCHEDULE),
        Job(process_purge_retries.process_purge_retries, process_purge_retries.SCHEDULE),
        Job(cleanup_stuck_runs.cleanup_stuck_runs, cleanup_stuck_runs.SCHEDULE),
        Job(
            cleanup_orphaned_containers.cleanup_orphaned_containers,
            cleanup_orphaned_containers.SCHEDULE,
        ),
        Job(
            cleanup_idempotency_keys.cleanup_idempotency_keys,
            cleanup_idempotency_keys.SCHEDULE,
            IDEMPOTENCY_KEYS,
        ),
        Job(
            cleanup_callback_receipts.cleanup_callback_receipts,
            cleanup_callback_receipts.SCHEDULE,
            CALLBACK_RECEIPTS,
        ),
        Job(clear_sessions.clear_sessions, clear_sessions.SCHEDULE, SESSIONS),
    )
}
