"""Disabling Beat's tasks that the jobs replace: the only write to Beat's tables (SPEC 10.13).

`enabled` alone would not last: Validibot's `setup_validibot`, which `just self-hosted setup-data`
runs, sets it again on each of its tasks. It leaves `expires` as it is, and Beat never starts a task
that has expired. So a task gets both. `expire_seconds` is cleared, because django-celery-beat
refuses to save a task that has both kinds of expiry.
"""

from sqlalchemy import Connection, bindparam, text

from maintenance.beat.tasks import TAKEN_OVER, BeatTask, check_readable, read_tasks

# `last_run_at` is cleared as Django's own save of a disabled task does.
DISABLE = text(
    "UPDATE django_celery_beat_periodictask SET enabled = false, last_run_at = NULL,"
    " expires = least(expires, now()), expire_seconds = NULL, date_changed = now(),"
    " description = CASE WHEN position(:taken_over IN description) > 0 THEN description"
    "  ELSE :taken_over || CASE WHEN enabled AND coalesce(expires > now(), true)"
    "   THEN ' (was enabled). ' ELSE ' (was disabled). ' END || description END"
    " WHERE id IN :ids"
).bindparams(bindparam("ids", expanding=True))

# A running Beat reads its tasks again when this moves.
ANNOUNCE = text("UPDATE django_celery_beat_periodictasks SET last_update = clock_timestamp()")


def to_take_over(connection: Connection) -> list[BeatTask]:
    """Return the tasks to disable: those that a job replaces, unless that has been done.

    A task that is disabled in Beat already is among them, because Validibot's set-up would enable
    it again.

    Raises:
        BeatUnreadable: Beat's tables are absent, or the role lacks a right.
    """
    check_readable(connection, writes=True)
    return [one for one in read_tasks(connection) if one.job and (one.on or not one.taken_over)]


def disable(connection: Connection, tasks: list[BeatTask]) -> None:
    """Disable the tasks for good, and let a running Beat notice it.

    Raises:
        DatabaseError: a statement failed (from the transaction that this is part of).
    """
    if tasks:
        connection.execute(DISABLE, {"ids": [one.id for one in tasks], "taken_over": TAKEN_OVER})
        connection.execute(ANNOUNCE)
