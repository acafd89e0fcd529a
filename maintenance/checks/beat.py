"""Preflight of Celery Beat: it no longer does what the jobs do (SPEC 10.13)."""

from maintenance.beat.keeper import ACTION, find_keeper
from maintenance.checks.finding import Check, Finding, error, not_checked, ok, warning
from maintenance.errors import DatabaseError
from maintenance.settings import Settings

BEAT = "Celery Beat"


def beat_check(settings: Settings) -> Check:
    """Return the check: none of Beat's tasks is active that a job replaces."""
    return Check((BEAT,), lambda: [_find(settings)])


def _find(settings: Settings) -> Finding:
    try:
        found = find_keeper(settings, "check beat")
    except DatabaseError:
        return not_checked([BEAT], "the database cannot be asked")[0]
    if not found.present:
        return ok(BEAT, "this database has no tables of Celery Beat")
    if found.unknown:
        return warning(BEAT, "not checked", found.unknown)
    if found.active:
        return error(BEAT, found.described, ACTION)
    if found.enabled:
        return warning(BEAT, found.waiting, ACTION)
    return ok(BEAT, "starts none of the tasks that the jobs replace")
