"""Preflight of Validibot's continuations: none of them is left unfinished (SPEC 6.5)."""

from maintenance.checks.finding import Finding, not_checked, ok, warning
from maintenance.continuations import REDELIVERY, old_continuations
from maintenance.database import database_clock, engine_for, transaction
from maintenance.errors import DatabaseError
from maintenance.settings import Settings

CONTINUATIONS = "continuations"


def check_continuations(settings: Settings) -> Finding:
    """Return whether continuations are unfinished for longer than the setting allows."""
    try:
        found = find_old(settings, "check")
    except DatabaseError as problem:
        return not_checked([CONTINUATIONS], str(problem))[0]
    if found:
        return warning(CONTINUATIONS, found, f"run {REDELIVERY} every 10 minutes")
    return ok(
        CONTINUATIONS, f"none is unfinished for more than {settings.continuation_minutes} minutes"
    )


def find_old(settings: Settings, name: str) -> str:
    """Describe the continuations that are unfinished for longer than the setting allows.

    Args:
        settings: where the database is, and the age in minutes.
        name: what the database connection is called.

    Returns:
        One sentence; empty if there are none.

    Raises:
        DatabaseError: the statement failed.
    """
    with transaction(engine_for(settings, name), read_only=True) as connection:
        now = database_clock(connection)
        return old_continuations(connection, now, settings.continuation_minutes)
