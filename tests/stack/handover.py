"""What becomes of Beat's tasks when the jobs take over from it."""

import time
from datetime import UTC, datetime
from typing import Any

from maintenance.beat.tables import CRONTAB, INTERVAL
from maintenance.beat.tasks import TAKEN_OVER
from tests.stack.stack import POLL_SECONDS
from tests.stack.validibot import StandIn
from tests.support.beat import NAMES

EIGHT = set(NAMES)
"""The tasks that jobs replace."""
OTHERS = {"Enforce Audit Retention", "Send Periodic Emails"}
"""Of the tasks that no job replaces, those that are on."""

BY_BEAT = {"last_run_at", "total_run_count"}
"""What Beat itself writes."""
BY_US = {"enabled", "expires", "expire_seconds", "description", "date_changed"}
"""What taking over writes besides."""
START_SECONDS = 60
SCHEDULES = f"SELECT * FROM {CRONTAB}; SELECT * FROM {INTERVAL}"

Rows = dict[str, dict[str, Any]]


class Handover:
    """Beat's tables, and how they were before."""

    def __init__(self, application: StandIn) -> None:
        self._application = application
        self._schedules = sorted(application.sql(SCHEDULES))
        self._tasks = application.tasks()
        assert self._tasks.keys() > EIGHT | OTHERS
        assert {name for name in EIGHT if not self._tasks[name]["enabled"]} == set()

    def started(self) -> set[str]:
        """Wait for Beat to start tasks; return those that it has started."""
        deadline = time.monotonic() + START_SECONDS
        before = _counts(self._application.tasks())
        while (after := _counts(self._application.tasks())) == before:
            assert time.monotonic() < deadline, self._application.logs()
            time.sleep(POLL_SECONDS)
        return {name for name in after if after[name] > before[name]}

    def is_complete(self) -> None:
        """Check that the eight are off for good, and that all else is as it was."""
        self._all_else_is_as_it_was()
        now = datetime.now(UTC)
        tasks = self._application.tasks()
        for name in EIGHT:
            assert datetime.fromisoformat(tasks[name]["expires"]) <= now
            assert tasks[name]["description"].startswith(f"{TAKEN_OVER} (was enabled). ")
            assert tasks[name]["last_run_at"] is None

    def counts(self) -> dict[str, int]:
        """How often Beat has started each of the eight."""
        counts = _counts(self._application.tasks())
        return {name: counts[name] for name in EIGHT}

    def is_undone(self) -> None:
        """Check that the eight are as they were, too."""
        self._all_else_is_as_it_was()
        assert _without(BY_BEAT | {"date_changed"}, self._application.tasks()) == _without(
            BY_BEAT | {"date_changed"}, self._tasks
        )

    def _all_else_is_as_it_was(self) -> None:
        assert sorted(self._application.sql(SCHEDULES)) == self._schedules
        tasks = self._application.tasks()
        assert tasks.keys() == self._tasks.keys()
        for name, task in tasks.items():
            written = BY_BEAT | BY_US if name in EIGHT else BY_BEAT
            assert _one_without(written, task) == _one_without(written, self._tasks[name])


def _counts(tasks: Rows) -> dict[str, int]:
    return {name: task["total_run_count"] for name, task in tasks.items()}


def _without(columns: set[str], tasks: Rows) -> Rows:
    return {name: _one_without(columns, task) for name, task in tasks.items()}


def _one_without(columns: set[str], task: dict[str, Any]) -> dict[str, Any]:
    return {column: value for column, value in task.items() if column not in columns}
