"""What the watch reports of Validibot's continuations (SPEC 6.5)."""

from deployments.monitoring.problems import MAX_TEXT, Problem
from flows.run.events import PREFIX
from maintenance.checks.continuations import find_old
from maintenance.errors import MaintenanceError
from maintenance.settings import settings

RESOURCE = f"{PREFIX}.continuations"


def continuation_problems() -> list[Problem]:
    """Return one problem when continuations are unfinished for too long.

    A database that does not answer is a problem of the backlog, and none of this one.
    """
    try:
        found = find_old(settings(), "watch")
    except MaintenanceError:
        return []
    return [Problem(RESOURCE, "continuations", found[:MAX_TEXT])] if found else []
