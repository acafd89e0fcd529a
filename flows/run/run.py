"""A run of a job: what its steps share, and draining a step slice by slice."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from prefect import Task

from flows.run.prefect_context import run_logger
from flows.run.progress import Count, Progress
from flows.run.refusals import Refusals
from maintenance import stop_request
from maintenance.budget import Budget
from maintenance.cutoff import Cutoff
from maintenance.errors import LockTimeout, StatementTimeout
from maintenance.guard import Guard
from maintenance.report import Report, StopReason
from tasks.batching.slices import Slice
from tasks.patience import work_done

T = TypeVar("T")
P = ParamSpec("P")


@dataclass
class StepProgress:
    """How far a step of a run has come.

    Attributes:
        resumable: whether the step may go on at `cursor` after an interruption.
        cursor: the cursor after the last slice, or the result of a step that is no slice.
        rows: size of the next batch; None before the first slice.
        finished: whether nothing is left to do.
    """

    resumable: bool = True
    cursor: Any = None
    rows: int | None = None
    finished: bool = False


@dataclass
class Run:
    """One run of a job.

    After an interruption the job's steps are called again, from the first one, on the same run.
    Each step then goes on where it was, and a finished one does nothing.

    Attributes:
        job: the job's name.
        cutoff: the fixed moment that the run works up to.
        options: what the job's tasks are called with.
        budget: seconds and batches that the run may use.
        dry_run: whether the run only previews its work.
        first_rows: the batch size that was asked for, which the first batch has; None to start
            with smaller batches.
        count_overdue: counts what is left to do, for the progress of a long run.
        report: what the run has done so far.
        progress: what shows it during a long run.
        guard: the job's lock; None in a dry run, and when the job works without the database.
    """

    job: str
    cutoff: Cutoff
    options: Any
    budget: Budget
    dry_run: bool = False
    first_rows: int | None = None
    count_overdue: Count | None = None
    report: Report = field(init=False)
    guard: Guard | None = field(init=False, default=None)
    progress: Progress = field(init=False)
    _steps: dict[tuple[str, int], StepProgress] = field(init=False, default_factory=dict)
    _calls: Counter[str] = field(init=False, default_factory=Counter)
    _refusals: Refusals = field(init=False, default_factory=Refusals)

    def __post_init__(self) -> None:
        """Begin the report."""
        self.report = Report(job=self.job, dry_run=self.dry_run, as_of=self.cutoff.as_of)
        self.progress = Progress(self.job, self.cutoff, self.count_overdue)

    def drain(
        self, step: Task[..., Slice[Any]], options: object = None, *, resumable: bool = True
    ) -> Any:  # noqa: ANN401 - each task has its own kind of cursor
        """Call a task slice by slice until nothing is left or the budget is used up.

        Args:
            step: the task.
            options: what to call it with, instead of the run's options.
            resumable: whether what its slices returned is still true after the database has
                crashed. Otherwise the step begins again after an interruption.

        Returns:
            The cursor after the last slice; None when the budget allowed no slice.

        Raises:
            StopRequested: a signal asked the run to stop.
            GuardLost: another run of the job may have started.
            Exception: the task failed after its retries.
        """
        progress = self._next_step(step.name, resumable=resumable)
        first_rows = None if self.dry_run else self.first_rows
        while not progress.finished:
            used_up = self.budget.exhausted_by
            if self._is_stopped_by(used_up):
                break
            share = self.budget.slice(progress.rows or first_rows)
            done = step(self.cutoff, progress.cursor, share, options or self.options)
            self.budget.spend(done.batches)
            self._account(step.name, progress, done)
        return progress.cursor

    def drain_secondary(self, step: Task[..., Slice[Any]]) -> Any:  # noqa: ANN401 - as `drain`
        """Drain a task of repairs or discovery, within its share of the time budget.

        What is left is left to the next run, so that the job's main work gets its turn.

        Args:
            step: the task.

        Returns:
            The cursor after the last slice; None when the budget allowed no slice.

        Raises:
            Exception: as `drain`.
        """
        progress = self._next_step(step.name)
        while not progress.finished:
            used_up = None
            if self.budget.secondary_seconds_left <= 0:
                used_up = "time_budget"
                self.warn([f"{step.name}: its share of the time budget is used up"])
            if self._is_stopped_by(used_up):
                break
            started = time.monotonic()
            share = self.budget.secondary_slice(progress.rows)
            done = step(self.cutoff, progress.cursor, share, self.options)
            self.budget.spend_secondary(time.monotonic() - started)
            self._account(step.name, progress, done)
        return progress.cursor

    def once(self, step: Task[..., T]) -> T:
        """Return the result of a task that is called once in a run, also after interruptions."""
        progress = self._next_step(step.name)
        if not progress.finished:
            progress.cursor = step(self.cutoff, self.options)
            progress.finished = True
        result: T = progress.cursor
        return result

    def observe(self, step: Task[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Return the result of a task that only looks at what the run has left (SPEC 10.7).

        Returns:
            None, and a warning in the report, when it exceeds a time-out: what is done is done.

        Raises:
            Exception: the task failed for another reason.
        """
        try:
            return step(*args, **kwargs)
        except (LockTimeout, StatementTimeout) as error:
            self.warn([f"{step.name}: not known, because it took too long: {error}"])
            return None

    def begin_again(self) -> None:
        """Prepare for calling the job's steps again after an interruption."""
        self._calls.clear()
        for progress in self._steps.values():
            if not (progress.finished or progress.resumable):
                progress.cursor = None

    def warn(self, texts: Iterable[str]) -> None:
        """Add warnings to the report, each of them once."""
        self.report.warnings += [text for text in texts if text not in self.report.warnings]

    def _next_step(self, name: str, *, resumable: bool = True) -> StepProgress:
        """Return the progress of a step: of the first call of this task, of the second, etc."""
        self._calls[name] += 1
        return self._steps.setdefault((name, self._calls[name]), StepProgress(resumable))

    def _is_stopped_by(self, used_up: str | None) -> bool:
        stop_request.check()
        if used_up is not None:
            self.report.stopped_because = StopReason(used_up)
            return True
        if self.guard is not None:
            self.guard.check()
        return False

    def _account(self, step: str, progress: StepProgress, done: Slice[Any]) -> None:
        """Take over what a slice did: in the step's progress, the report and the log."""
        work_done()
        progress.cursor, progress.rows = done.cursor, done.rows
        progress.finished = done.exhausted and not done.interrupted
        report = self.report
        for failure in done.result.failures:
            run_logger().error(
                "%s: %s failed: %s; %s", step, failure.item, failure.cause, failure.action
            )
        report.add(done.result)
        if done.interrupted:
            self.warn([f"{step}: interrupted and resumed: {done.interrupted}"])
        if done.result.selected or done.result.repaired:
            run_logger().info(
                "%s: %s selected, %s done, %s failed so far",
                step,
                f"{report.selected:,}",
                f"{report.done:,}",
                f"{report.failed:,}",
                extra={"action": "slice", "job": report.job, "selected": report.selected},
            )
        self.progress.update(report)
        self._refusals.count(done.result)
