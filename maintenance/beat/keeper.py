"""Whether Celery Beat still does what the jobs do (SPEC 10.13).

A task counts as active when it is enabled and was started within its last two intervals. A task
that is only enabled becomes active as soon as the scheduler is started again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from maintenance.beat.crontab import Crontab
from maintenance.beat.tables import PERIODIC_TASK, examine
from maintenance.beat.tasks import BeatTask, BeatUnreadable, read_tasks
from maintenance.beat.windows import windows_between
from maintenance.database import database_clock, engine_for, transaction
from maintenance.settings import Settings

INTERVALS = 2
IRREGULAR = timedelta(days=1)
"""Taken as the interval of a task whose schedule cannot be computed, such as sunrise."""
MAX_NAMED = 8

TAKE_OVER = "python -m maintenance import-beat-schedules --take-over"
ACTION = (
    f"stop Validibot's scheduler and run {TAKE_OVER}, so that no start of the scheduler brings"
    " them back (docs/migration.md)"
)


@dataclass(frozen=True)
class Keeper:
    """What Beat does of the jobs' work.

    Attributes:
        present: whether the database has Beat's tables.
        active: tasks that Beat starts.
        enabled: tasks that Beat would start, if its scheduler ran.
        unknown: why this cannot be decided; empty if it can.
    """

    present: bool = True
    active: tuple[BeatTask, ...] = ()
    enabled: tuple[BeatTask, ...] = ()
    unknown: str = ""

    @property
    def problem(self) -> str:
        """What is wrong and what to do, in one sentence; empty if nothing is."""
        return f"{self.described}; {ACTION}" if self.active else ""

    @property
    def described(self) -> str:
        """Which tasks Beat starts, and when it did so last."""
        tasks = "task" if len(self.active) == 1 else "tasks"
        return (
            f"Celery Beat is at work beside these jobs: it still starts {len(self.active)} {tasks}"
            f" that they replace ({_some(self.active, _with_last_run)})"
        )

    @property
    def waiting(self) -> str:
        """Which tasks Beat would start."""
        return (
            "Celery Beat has not started its tasks lately, but would do so again:"
            f" {_some(self.enabled, lambda one: repr(one.name))} are enabled"
        )


def find_keeper(settings: Settings, name: str) -> Keeper:
    """Read Beat's tasks and decide which of them are active, by the database's clock.

    Args:
        settings: where the database is.
        name: what the database connection is called.

    Raises:
        DatabaseError: a statement failed.
    """
    with transaction(engine_for(settings, name), read_only=True) as connection:
        return read_keeper(connection)


def read_keeper(connection: Connection) -> Keeper:
    """Do the same on a connection.

    Raises:
        DatabaseError: a statement failed (from the transaction that this is part of).
    """
    if PERIODIC_TASK in examine(connection).absent:
        return Keeper(present=False)
    try:
        tasks = read_tasks(connection)
    except BeatUnreadable as error:
        return Keeper(unknown=str(error))
    now = database_clock(connection)
    enabled = tuple(one for one in tasks if one.job is not None and one.on)
    return Keeper(active=tuple(one for one in enabled if is_active(one, now)), enabled=enabled)


def is_active(task: BeatTask, now: datetime) -> bool:
    """Decide whether Beat has started an enabled task within its last two intervals."""
    if task.last_run is None:
        return False
    if isinstance(task.timing, Crontab):
        return windows_between(task.timing, task.last_run, now, INTERVALS + 1) <= INTERVALS
    return now - task.last_run <= INTERVALS * (task.timing or IRREGULAR)


def _some(tasks: Sequence[BeatTask], describe: Callable[[BeatTask], str]) -> str:
    more = len(tasks) - MAX_NAMED
    named = ", ".join(describe(one) for one in tasks[:MAX_NAMED])
    return f"{named} and {more} more" if more > 0 else named


def _with_last_run(task: BeatTask) -> str:
    return f"{task.name!r} at {task.last_run:%Y-%m-%d %H:%M} UTC"
