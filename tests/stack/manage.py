"""Stands for what is in Validibot's image: its entry point, its services and its manage.py.

It is mounted into containers of this project's image. Beat is quicker than the real one: it starts
all tasks every second, whatever their schedules are. That a task was started is all it does.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from maintenance.settings import load_settings
from tests.support.beat import NAMES, Beat

DJANGO = 101
"""Validibot's user and group."""
STORAGE = "/app/storage"
PAST = datetime(2026, 1, 1, tzinfo=UTC)

SYNCHRONIZE = text("UPDATE django_celery_beat_periodictask SET enabled = true WHERE name = ANY(:n)")
START_TASKS = text(
    "UPDATE django_celery_beat_periodictask"
    " SET last_run_at = now(), total_run_count = total_run_count + 1"
    " WHERE enabled AND coalesce(expires > now(), true)"
)
REDELIVER = text(
    "UPDATE validations_validationruncontinuation SET state = 'COMPLETED', completed_at = now()"
    " WHERE state NOT IN ('COMPLETED', 'NOT_REQUIRED')"
)


def start(service: str) -> None:
    """Become the system user django, as the entry point does, and do a service's work."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if os.path.ismount(STORAGE):
        os.chown(STORAGE, DJANGO, DJANGO)
    os.setgroups([])
    os.setgid(DJANGO)
    os.setuid(DJANGO)
    os.umask(0o022)
    if service == "web":
        until_done(load)
    if service == "scheduler":
        until_done(sync_schedules)
        while True:
            until_done(lambda: write(START_TASKS))
            time.sleep(1)
    signal.pause()


def load() -> None:
    """Make the tables and their rows, unless they are there; Beat's come last."""
    with engine().connect() as connection:
        if connection.scalar(text("SELECT to_regclass('django_celery_beat_periodictask')")):
            return
    subprocess.run([sys.executable, "-m", "demo.sample"], check=True)
    beat = Beat(engine())
    beat.own_tasks()
    # What an operator has edited, and what no job replaces.
    edited = beat.crontab("15 2 * * *", "Europe/Berlin")["crontab_id"]
    beat.run(
        "UPDATE django_celery_beat_periodictask SET crontab_id = :edited, description = 'Later'"
        " WHERE name = 'Clear Sessions'",
        edited=edited,
    )
    audit = beat.crontab("30 2 * * *")
    beat.task("Enforce Audit Retention", audit, "validibot.enforce_audit_retention")
    beat.task("Send Periodic Emails", beat.interval(6, "hours"), "validibot.send_periodic_emails")
    beat.task("Switched off", audit, "validibot_pro.report", enabled=False)
    beat.task("Expired", audit, "validibot_pro.greetings", expires=PAST)


def sync_schedules() -> int:
    """Enable the tasks that Validibot registers; return how many."""
    return write(SYNCHRONIZE, n=list(NAMES))


def until_done(step: Callable[[], object]) -> None:
    """Try a step until the database is there, with its tables."""
    while True:
        try:
            step()
        except (SQLAlchemyError, subprocess.CalledProcessError):
            time.sleep(1)
        else:
            return


def write(statement: object, **values: object) -> int:
    """Run a statement; return how many rows it has changed."""
    with engine().begin() as connection:
        return connection.execute(statement, values).rowcount  # type: ignore[call-overload, no-any-return]


def engine() -> Engine:
    """The application's database, with its own user."""
    return create_engine(load_settings().url)


def main() -> None:
    """Run a command of manage.py that docs/migration.md names, or start a service."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("start").add_argument("service")
    commands.add_parser("enforce_audit_retention")
    commands.add_parser("send_periodic_emails")
    commands.add_parser("cleanup_stuck_runs").add_argument("--timeout-minutes", type=int)
    given = parser.parse_args()
    if given.command == "start":
        start(given.service)
    if given.command == "cleanup_stuck_runs":
        sys.stdout.write(f"Redelivered {write(REDELIVER)} continuations\n")


if __name__ == "__main__":
    main()
