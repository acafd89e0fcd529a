"""Celery Beat as a problem that the watch reports (SPEC 10.13)."""

from deployments.monitoring.problems import Problem
from flows.run.events import PREFIX
from maintenance.beat.keeper import find_keeper
from maintenance.errors import MaintenanceError
from maintenance.settings import settings

NAME = "Celery Beat"


def beat_problems() -> list[Problem]:
    """Return one problem while Beat starts tasks that the jobs replace.

    A database that does not answer is reported with the backlogs, and a missing right by
    `python -m maintenance check`.
    """
    try:
        found = find_keeper(settings(), "watch")
    except MaintenanceError:
        return []
    return [Problem(f"{PREFIX}.beat", NAME, found.problem)] if found.problem else []
