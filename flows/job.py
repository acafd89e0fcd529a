"""What is known of a job: its flow, schedule, time budget, and how its backlog is counted."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from prefect import Flow

from flows.run import safe_log
from maintenance.budget import Budget
from maintenance.cutoff import Cutoff
from maintenance.expiring import ExpiringTable
from maintenance.report import Overdue
from maintenance.settings import settings

safe_log.install()


@dataclass(frozen=True)
class Job:
    """A job.

    Attributes:
        flow: the Prefect flow.
        schedule: the cron line of the default schedule, in UTC.
        time_budget: how long a run may work, unless a parameter or a setting says otherwise.
        time_limit: when a run stops after its current batch, whatever its time budget is. Five
            minutes later its process is killed.
        count_overdue: counts the backlog at a cutoff, given the job's name. It returns None when
            the job has nothing to work on in this deployment.
        due_after: time from the moment that the age of an overdue item is counted from, until the
            item is due; None when it differs between items.
        expiring: the table whose rows the job deletes by age; None for other jobs.
        off_at_first: whether its schedule starts no runs until an operator resumes it.
    """

    flow: Flow[..., Any]
    schedule: str
    time_budget: timedelta
    count_overdue: Callable[[Cutoff, str], Overdue | None]
    due_after: timedelta | None = timedelta(0)
    time_limit: timedelta = timedelta(minutes=25)
    expiring: ExpiringTable | None = None
    off_at_first: bool = False

    @property
    def name(self) -> str:
        """The name of the job, which is the name of its flow."""
        return self.flow.name

    @property
    def description(self) -> str:
        """The first line of the flow's docstring, with the table that is deleted by age, if any."""
        line = (self.flow.fn.__doc__ or "").strip().splitlines()[0]
        return f"{line} ({self.expiring})" if self.expiring else line

    def budget(self, seconds: float | None, max_batches: int | None) -> Budget:
        """Return the budget of a run that starts now.

        Args:
            seconds: the time budget; None for the setting, or without one the job's own.
            max_batches: the most batches; None for no limit.
        """
        return Budget(
            seconds or settings().time_budget(self.time_budget),
            max_batches,
            limit_seconds=self.time_limit.total_seconds(),
        )


def no_backlog(_cutoff: Cutoff, _job: str) -> Overdue | None:
    """Return None: what the job has to do is known only by doing it."""
    return None
