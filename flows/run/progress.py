"""How far a long run has come: a progress artifact, and on a terminal one line that is rewritten.

Both need what is left to do, which is counted once, after `LONG_SECONDS`: most runs end before,
and pay nothing for it.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.run.prefect_context import has_server, run_logger
from maintenance.cutoff import Cutoff
from maintenance.report import Overdue, Report
from maintenance.wording import human_age, number_of

LONG_SECONDS = 15.0
"""A run that takes longer than this, more than one slice, shows its progress."""
CLEAR = "\r\x1b[K"
"""To the beginning of the terminal's line, and clear the rest."""

Count = Callable[[Cutoff, str], Overdue | None]


def on_terminal() -> bool:
    """Return whether an operator watches standard error."""
    return sys.stderr.isatty()


@dataclass
class Progress:
    """The progress of one run.

    Attributes:
        job: the job's name.
        cutoff: the moment that the run works up to.
        count: counts what is overdue; None if that is not known of the job.
        long_seconds: after how many seconds the run counts as long.
    """

    job: str
    cutoff: Cutoff
    count: Count | None
    long_seconds: float = LONG_SECONDS
    _started: float = field(init=False, default_factory=time.monotonic)
    _total: int | None = field(init=False, default=None)
    _about: str = field(init=False, default="")
    _counted: bool = field(init=False, default=False)
    _artifact: UUID | None = field(init=False, default=None)
    _shown: bool = field(init=False, default=False)

    def update(self, report: Report) -> None:
        """Show the progress after a slice. It never fails the run."""
        seconds = time.monotonic() - self._started
        try:
            if seconds >= self.long_seconds and not self._counted:
                self._counted = True
                self._estimate(report)
            if on_terminal():
                self._shown = True
                sys.stderr.write(f"{CLEAR}{self.text(report, seconds)}")
                sys.stderr.flush()
            if seconds >= self.long_seconds and self._total and has_server():
                self._publish(report, self.text(report, seconds))
        except Exception as error:  # noqa: BLE001 - the run's work does not depend on it
            run_logger().warning("the progress could not be shown: %s", error)

    def end(self, report: Report) -> None:
        """Clear the line of the terminal, and complete the artifact of a long run."""
        if self._shown:
            sys.stderr.write(CLEAR)
            sys.stderr.flush()
        if self._artifact is not None:
            try:
                self._publish(report, report.summary())
            except Exception as error:  # noqa: BLE001 - as above
                run_logger().warning("the progress could not be shown: %s", error)

    def text(self, report: Report, seconds: float) -> str:
        """Return the progress in one line: done, rate, remaining and time left."""
        rate = report.selected / max(seconds, 1e-6)
        pace = f"{rate:,.0f}/s" if rate >= 1 else f"{60 * rate:,.1f} a minute"
        parts = [f"{self.job}: {number_of(report.selected, 'items')}", pace]
        if self._total is not None:
            left = max(0, self._total - report.selected)
            parts.append(f"{self._about}{left:,} remaining")
            if rate > 0:
                parts.append(f"ETA {human_age(left / rate)}")
        return ", ".join(parts)

    def _estimate(self, report: Report) -> None:
        """Count what is left, and add what was done already; a dry run has changed nothing."""
        overdue = self.count(self.cutoff, self.job) if self.count else None
        if overdue is not None:
            self._total = overdue.rows + (0 if report.dry_run else report.selected)
            self._about = "about " if overdue.estimated else ""

    def _publish(self, report: Report, text: str) -> None:
        assert self._total is not None  # noqa: S101 - it was counted before
        percent = min(100.0, 100.0 * report.selected / max(1, self._total))
        if self._artifact is None:
            made = create_progress_artifact(percent, key=f"{self.job}-progress", description=text)
            assert isinstance(made, UUID)  # noqa: S101 - outside of an event loop
            self._artifact = made
        else:
            update_progress_artifact(self._artifact, percent, description=text)
