"""The tables of django-celery-beat: which of them there are, and what the role may do with them.

They belong to Validibot's old set-up and may be absent, so no job depends on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

from maintenance.privileges import Privilege, as_grants, guarded, lacking

PERIODIC_TASK = "django_celery_beat_periodictask"
CRONTAB = "django_celery_beat_crontabschedule"
INTERVAL = "django_celery_beat_intervalschedule"
LAST_CHANGE = "django_celery_beat_periodictasks"
"""One row with the time of the last change; Beat reads the tasks again when it has moved."""

Columns = Mapping[str, tuple[str, ...]]

READ: Columns = {
    PERIODIC_TASK: (
        *("id", "name", "task", "args", "kwargs", "one_off", "start_time", "expires", "enabled"),
        *("last_run_at", "description", "crontab_id", "interval_id"),
    ),
    CRONTAB: (
        *("id", "minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone"),
    ),
    INTERVAL: ("id", "every", "period"),
}
"""What is read of the tasks and their schedules."""

WRITTEN: Columns = {
    PERIODIC_TASK: (
        *("enabled", "expires", "expire_seconds", "last_run_at", "description", "date_changed"),
    ),
    LAST_CHANGE: ("last_update",),
}
"""What `import-beat-schedules --take-over` writes, and nothing else does."""

# Not information_schema, which hides what the role has no privilege on.
MISSING = text(
    "SELECT w.table_name, w.column_name, c.oid IS NULL AS table_missing"
    " FROM unnest(CAST(:tables AS text[]), CAST(:columns AS text[])) AS w(table_name, column_name)"
    " LEFT JOIN pg_class c ON c.oid = to_regclass(w.table_name)"
    " LEFT JOIN pg_attribute a"
    "  ON a.attrelid = c.oid AND a.attname = w.column_name AND NOT a.attisdropped"
    " WHERE a.attname IS NULL ORDER BY 1, 2"
)


def grant_reading(role: str) -> str:
    """Return the statements that let a role read the tables, where there are some.

    Args:
        role: its name, quoted if that is necessary.
    """
    lines = ["-- Celery Beat's tables, where they exist: to notice that Beat is still at work."]
    for table, columns in READ.items():
        grant = f"GRANT SELECT ({', '.join(sorted(columns))}) ON {table} TO {role};"
        lines += guarded(f"to_regclass('{table}') IS NOT NULL", [grant])
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Tables:
    """What is missing of Beat's tables.

    Attributes:
        absent: tables that do not exist.
        columns: columns that do not exist in tables that do, as `table.column`.
        refused: privileges that the role lacks on what exists.
    """

    absent: tuple[str, ...]
    columns: tuple[str, ...]
    refused: tuple[Privilege, ...]

    def grant(self, role: str) -> str:
        """Return the statements that grant what the role lacks."""
        return "; ".join(f"GRANT {one} TO {role}" for one in as_grants(self.refused))


def examine(connection: Connection, *, writes: bool = False) -> Tables:
    """Compare the tables with what is read, and if `writes`, also with what is written."""
    used = [("SELECT", READ), *([("UPDATE", WRITTEN)] if writes else [])]
    needed = [
        (table, column, privilege)
        for privilege, part in used
        for table, columns in part.items()
        for column in columns
    ]
    names = sorted({(table, column) for table, column, _ in needed})
    given = {"tables": [table for table, _ in names], "columns": [column for _, column in names]}
    missing = connection.execute(MISSING, given).all()
    return Tables(
        tuple(dict.fromkeys(row.table_name for row in missing if row.table_missing)),
        tuple(f"{row.table_name}.{row.column_name}" for row in missing if not row.table_missing),
        tuple(lacking(connection, needed)),
    )
