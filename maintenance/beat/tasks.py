"""Beat's periodic tasks, read from the tables of django-celery-beat. Nothing is written here."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, text

from maintenance.beat.crontab import Crontab, UnreadableCrontab, to_crontab
from maintenance.beat.interval import UnreadableInterval, describe, to_interval
from maintenance.beat.tables import examine
from maintenance.beat.windows import never_due
from maintenance.errors import MaintenanceError

REPLACED = (
    "purge-expired-submissions",
    "purge-expired-outputs",
    "process-purge-retries",
    "cleanup-stuck-runs",
    "cleanup-orphaned-containers",
    "cleanup-idempotency-keys",
    "cleanup-callback-receipts",
    "clear-sessions",
)
"""The jobs that replace a task of Beat. The task's name is the job's, with underscores."""

PREFIX = "validibot."

TAKEN_OVER = "Taken over by Validibot Maintenance"
"""Begins the description of a task that `--take-over` has disabled."""

# Validibot's own task is sorted before those that operators added under other names. Dates are
# text, and the last run has bounds, because Python cannot hold every time that a column can.
PERIODIC_TASKS = text(
    "SELECT p.id, p.name, p.task, p.args, p.kwargs, p.one_off, p.enabled,"
    " CASE WHEN p.last_run_at > '2000-01-01' THEN least(p.last_run_at, now()) END AS last_run_at,"
    " coalesce(p.expires <= now(), false) AS expired, left(CAST(p.expires AS text), 10) AS expires,"
    " coalesce(p.start_time > now(), false) AS waiting,"
    " left(CAST(p.start_time AS text), 10) AS start_time,"
    " position(:taken_over IN p.description) > 0 AS taken_over,"
    " p.crontab_id, c.minute, c.hour, c.day_of_month, c.month_of_year, c.day_of_week, c.timezone,"
    " p.interval_id, i.every, i.period"
    " FROM django_celery_beat_periodictask p"
    " LEFT JOIN django_celery_beat_crontabschedule c ON c.id = p.crontab_id"
    " LEFT JOIN django_celery_beat_intervalschedule i ON i.id = p.interval_id"
    " ORDER BY p.task,"
    "  replace(lower(p.name), ' ', '_') <> substr(p.task, :letters) , p.id"
)


class BeatUnreadable(MaintenanceError):
    """Beat's tables cannot be read; the text says why, and what to do."""


@dataclass(frozen=True)
class BeatTask:
    """A periodic task.

    Attributes:
        id: its number in Beat's table.
        name: its name in the admin.
        task: the Celery task that it starts.
        job: the job that replaces it; None when there is none.
        timing: when it is due; None when that cannot be imported.
        why_not: why `timing` is None.
        off: why Beat does not start it now; empty when Beat does.
        last_run: when Beat started it last; None if never.
        taken_over: whether `--take-over` has disabled it.
        notes: what else cannot be imported.
    """

    id: int
    name: str
    task: str
    job: str | None
    timing: Crontab | timedelta | None
    why_not: str = ""
    off: str = ""
    last_run: datetime | None = None
    taken_over: bool = False
    notes: tuple[str, ...] = ()

    @property
    def on(self) -> bool:
        """Whether Beat starts it."""
        return not self.off

    @property
    def when(self) -> str:
        """When it is due, for a table."""
        return describe(self.timing) if isinstance(self.timing, timedelta) else str(self.timing)


def job_of(task: str) -> str | None:
    """Return the job that replaces a Celery task, None if there is none."""
    job = task.removeprefix(PREFIX).replace("_", "-") if task.startswith(PREFIX) else ""
    return job if job in REPLACED else None


def read_tasks(connection: Connection) -> list[BeatTask]:
    """Return all periodic tasks; sorted by job, Validibot's own first.

    Raises:
        BeatUnreadable: there are no such tables, they are of another version, or the role may not
            read them.
        DatabaseError: a statement failed (from the transaction that this is part of).
    """
    check_readable(connection)
    given = {"letters": len(PREFIX) + 1, "taken_over": TAKEN_OVER}
    return [_task(row) for row in connection.execute(PERIODIC_TASKS, given)]


def check_readable(connection: Connection, *, writes: bool = False) -> None:
    """Check that Beat's tables can be read, and if `writes`, that tasks can be disabled.

    Raises:
        BeatUnreadable: they cannot; the text says why, and what to do.
    """
    found = examine(connection, writes=writes)
    if found.absent:
        raise BeatUnreadable(
            f"this database has no table {', '.join(found.absent)}: its schedules are not in Celery"
            " Beat"
        )
    if found.columns:
        raise BeatUnreadable(
            f"Beat's tables have no column {', '.join(found.columns)}: they are of an older"
            " django-celery-beat; let Validibot migrate them, or set the schedules by hand"
        )
    if found.refused:
        role = connection.execute(text("SELECT quote_ident(current_user)")).scalar_one()
        may_not = "change the tasks in" if writes else "read"
        raise BeatUnreadable(
            f"the role may not {may_not} Beat's tables. As their owner or as a superuser:"
            f" {found.grant(role)}"
        )


def _task(row: Row[*tuple[object, ...]]) -> BeatTask:
    timing, off = _timing(row), _off(row)
    if isinstance(timing, Crontab) and never_due(timing):
        timing = f"{timing} never comes due"
        off = off or "it never comes due"
    notes = []
    if row.args.strip() not in ("", "[]") or row.kwargs.strip() not in ("", "{}"):
        notes.append("its arguments are not taken over: set the deployment's parameters")
    if row.waiting:
        notes.append(
            f"Beat would start it from {row.start_time} on: resume the schedule then, nothing else"
            " does"
        )
    elif row.start_time is not None:
        notes.append(f"its start time ({row.start_time}) has passed and is not taken over")
    if row.expires is not None and not row.expired:
        notes.append(f"Beat would stop it on {row.expires}: pause the schedule then")
    return BeatTask(
        id=row.id,
        name=row.name,
        task=row.task,
        job=job_of(row.task),
        timing=None if isinstance(timing, str) else timing,
        why_not=timing if isinstance(timing, str) else "",
        off=off,
        last_run=row.last_run_at,
        taken_over=row.taken_over,
        notes=tuple(notes),
    )


def _off(row: Row[*tuple[object, ...]]) -> str:
    if not row.enabled:
        return "it is disabled"
    if row.expired:
        return f"it has expired ({row.expires})"
    return f"its start time is {row.start_time}" if row.waiting else ""


def _timing(row: Row[*tuple[object, ...]]) -> Crontab | timedelta | str:
    """Return when a task is due, or why that cannot be said."""
    try:
        if row.one_off:
            return "it runs once only"
        if row.crontab_id is not None:
            fields = (row.minute, row.hour, row.day_of_month, row.month_of_year, row.day_of_week)
            return to_crontab(fields, row.timezone)
        if row.interval_id is not None:
            return to_interval(row.every, row.period)
    except (UnreadableCrontab, UnreadableInterval) as error:
        return str(error)
    return "it follows the sun or a single date"
