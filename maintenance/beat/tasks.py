"""Beat's periodic tasks, read from the tables of django-celery-beat. Nothing is written."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, text

from maintenance.access import ACCESS
from maintenance.beat.crontab import Crontab, UnreadableCrontab, to_crontab
from maintenance.errors import MaintenanceError

TABLES = (
    "django_celery_beat_periodictask",
    "django_celery_beat_crontabschedule",
    "django_celery_beat_intervalschedule",
)
PREFIX = "validibot."
SHORTEST = timedelta(minutes=1)

CLOSED = text(
    "SELECT t.name, to_regclass(t.name) IS NULL AS absent FROM unnest(CAST(:tables AS text[]))"
    " AS t(name) WHERE to_regclass(t.name) IS NULL"
    " OR NOT has_table_privilege(to_regclass(t.name), 'SELECT')"
)

# Validibot's own task is sorted before those that operators added under other names.
PERIODIC_TASKS = text(
    "SELECT p.id, p.name, p.task, p.args, p.kwargs, p.one_off, p.start_time,"
    " p.enabled AND (p.expires IS NULL OR p.expires > now()) AS enabled,"
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
        enabled: whether Beat starts it.
        why_not: why `timing` is None.
        notes: what else cannot be imported.
    """

    id: int
    name: str
    task: str
    job: str | None
    timing: Crontab | timedelta | None
    enabled: bool
    why_not: str = ""
    notes: tuple[str, ...] = ()

    @property
    def when(self) -> str:
        """When it is due, for a table."""
        if isinstance(self.timing, timedelta):
            return f"every {self.timing.total_seconds() / SHORTEST.total_seconds():g} minutes"
        return str(self.timing)


def read_tasks(connection: Connection) -> list[BeatTask]:
    """Return all periodic tasks; sorted by job, Validibot's own first.

    Raises:
        BeatUnreadable: there are no such tables, or the role may not read them.
        DatabaseError: a statement failed (from the transaction that this is part of).
    """
    closed = connection.execute(CLOSED, {"tables": list(TABLES)}).all()
    absent = [row.name for row in closed if row.absent]
    if absent:
        raise BeatUnreadable(
            f"this database has no table {', '.join(absent)}: its schedules are not in Celery Beat"
        )
    if closed:
        role = connection.execute(text("SELECT quote_ident(current_user)")).scalar_one()
        raise BeatUnreadable(
            f"the role may not read Beat's tables. Grant it for the time being: GRANT SELECT ON"
            f" {', '.join(TABLES)} TO {role}"
        )
    rows = connection.execute(PERIODIC_TASKS, {"letters": len(PREFIX) + 1})
    return [_task(row) for row in rows]


def _task(row: Row[tuple[object, ...]]) -> BeatTask:
    timing, why_not = _timing(row)
    job = row.task.removeprefix(PREFIX).replace("_", "-") if row.task.startswith(PREFIX) else ""
    notes = []
    if row.args.strip() not in ("", "[]") or row.kwargs.strip() not in ("", "{}"):
        notes.append("its arguments are not taken over: set the deployment's parameters")
    if row.start_time is not None:
        notes.append(f"its start time ({_day(row.start_time)}) is not taken over")
    return BeatTask(
        id=row.id,
        name=row.name,
        task=row.task,
        job=job if job in ACCESS else None,
        timing=timing,
        enabled=row.enabled,
        why_not=why_not,
        notes=tuple(notes),
    )


def _timing(row: Row[tuple[object, ...]]) -> tuple[Crontab | timedelta | None, str]:
    if row.one_off:
        return None, "it runs once only"
    if row.crontab_id is not None:
        fields = (row.minute, row.hour, row.day_of_month, row.month_of_year, row.day_of_week)
        try:
            return to_crontab(fields, row.timezone), ""
        except UnreadableCrontab as error:
            return None, str(error)
    if row.interval_id is not None:
        interval = timedelta(**{row.period: row.every})
        if interval < SHORTEST:
            return None, f"every {interval.total_seconds():g} s is too often for such a job"
        return interval, ""
    return None, "it follows the sun or a single date"


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
