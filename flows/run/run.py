"""A run of a job: what its steps share, and draining a step slice by slice."""

from dataclasses import dataclass, field
from typing import Any

from prefect import Task

from flows.run.prefect_context import run_logger
from maintenance import stop_request
from maintenance.budget import Budget
from maintenance.cutoff import Cutoff
from maintenance.guard import Guard
from maintenance.report import Report, StopReason
from tasks.batching.slices import Slice


@dataclass
class Run:
    """One run of a job.

    Attributes:
        job: the job's name.
        cutoff: the fixed moment that the run works up to.
        options: what the job's tasks are called with.
        budget: seconds and batches that the run may use.
        dry_run: whether the run only previews its work.
        report: what the run has done so far.
        guard: the job's lock; None in a dry run, and when the job works without the database.
    """

    job: str
    cutoff: Cutoff
    options: Any
    budget: Budget
    dry_run: bool = False
    report: Report = field(init=False)
    guard: Guard | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Begin the report."""
        self.report = Report(job=self.job, dry_run=self.dry_run, as_of=self.cutoff.as_of)

    def drain(self, step: Task[..., Slice[Any]], options: object = None) -> Any:  # noqa: ANN401 - each task has its own kind of cursor
        """Call a task slice by slice until nothing is left or the budget is used up.

        Args:
            step: the task.
            options: what to call it with, instead of the run's options.

        Returns:
            The cursor after the last slice; None when the budget allowed no slice.

        Raises:
            StopRequested: a signal asked the run to stop.
            GuardLost: another run of the job may have started.
            Exception: the task failed after its retries.
        """
        cursor = None
        while True:
            stop_request.check()
            used_up = self.budget.exhausted_by
            if used_up is not None:
                self.report.stopped_because = StopReason(used_up)
                return cursor
            if self.guard is not None:
                self.guard.check()
            done = step(self.cutoff, cursor, self.budget.slice(), options or self.options)
            self._account(step.name, done)
            cursor = done.cursor
            if done.exhausted:
                return cursor

    def _account(self, step: str, done: Slice[Any]) -> None:
        """Add a slice to the report and the budget, and log the run's progress."""
        report = self.report
        report.add(done.result)
        self.budget.spend(done.result.batches)
        if done.interrupted:
            report.warnings.append(f"{step}: interrupted and resumed: {done.interrupted}")
        if done.result.selected or done.result.repaired:
            run_logger().info(
                "%s: %s selected, %s done, %s failed so far",
                step,
                f"{report.selected:,}",
                f"{report.done:,}",
                f"{report.failed:,}",
                extra={"action": "slice", "job": report.job, "selected": report.selected},
            )
