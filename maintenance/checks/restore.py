"""Preflight of restores: whether the database is as new as what the last run saw."""

from contextlib import ExitStack

from maintenance.checks.finding import Check, Finding, error, not_checked, ok
from maintenance.database import engine_for
from maintenance.errors import DatabaseError, StorageError
from maintenance.restore import look_back
from maintenance.settings import Settings
from maintenance.storage.roots import open_roots, private_root

JOB = "check restore"
RESTORE = "restore"
ACTION = "see docs/restore.md, then: python -m maintenance accept-restore"


def restore_check(settings: Settings) -> Check:
    """Return the check."""
    return Check((RESTORE,), lambda: [_look(settings)])


def _look(settings: Settings) -> Finding:
    try:
        with ExitStack() as opened:
            private = private_root(open_roots(settings, opened))
            look = look_back(engine_for(settings, JOB), private)
    except (DatabaseError, StorageError) as problem:
        return not_checked([RESTORE], str(problem))[0]
    if look.problem is not None:
        return error(RESTORE, f"the database was restored from a backup: {look.problem}", ACTION)
    return ok(RESTORE, "the database is as new as what the last run saw")
