"""The list of jobs: what `python -m flows` runs, and what is deployed."""

from dataclasses import dataclass
from typing import Any

from prefect import Flow

from flows import (
    clear_sessions,
    process_purge_retries,
    purge_expired_outputs,
    purge_expired_submissions,
)


@dataclass(frozen=True)
class Job:
    """One job: its flow, and the cron line of its default schedule (UTC)."""

    flow: Flow[..., Any]
    schedule: str

    @property
    def name(self) -> str:
        """The job's name, which is its flow's."""
        return self.flow.name

    @property
    def description(self) -> str:
        """The first line of the flow's manual."""
        return (self.flow.fn.__doc__ or "").strip().splitlines()[0]


JOBS = {
    job.name: job
    for job in (
        Job(
            purge_expired_submissions.purge_expired_submissions, purge_expired_submissions.SCHEDULE
        ),
        Job(purge_expired_outputs.purge_expired_outputs, purge_expired_outputs.SCHEDULE),
        Job(process_purge_retries.process_purge_retries, process_purge_retries.SCHEDULE),
        Job(clear_sessions.clear_sessions, clear_sessions.SCHEDULE),
    )
}
