"""What the purge jobs do about a restored database: refuse to act on it (SPEC 10.16)."""

from flows.run.prefect_context import run_logger
from flows.run.run import Run
from maintenance.errors import DatabaseError, RestoredDatabase, StorageError
from maintenance.restore import Look
from tasks.purge.restores import look_for_restore, remember_stamps

ADVICE = (
    "After a restore, rows claim content that was purged before. See docs/restore.md, then run"
    " `python -m maintenance accept-restore`"
)


def refuse_restored_database(run: Run) -> Look:
    """End the run if the database is older than what the last run saw; warn in a dry run.

    Returns:
        What was found.

    Raises:
        RestoredDatabase: it is older; nothing was touched.
    """
    look = run.once(look_for_restore)
    if look.problem is not None:
        text = f"the database was restored from a backup: {look.problem}"
        if not run.dry_run:
            raise RestoredDatabase(f"{text}; nothing was touched. {ADVICE}")
        run.warn([f"{text}. {ADVICE}"])
    return look


def remember_what_was_stamped(run: Run, kind: str, before: Look) -> None:
    """Remember the newest stamps of the run; a failure is a warning, because the work is done.

    Args:
        run: the run.
        kind: `submission` or `run`: the rows that the job stamps.
        before: what was found at the start of the run.
    """
    if not (run.report.stamped or before.is_new):
        return
    try:
        remember_stamps(run.options, kind, list(run.report.stamped))
    except (DatabaseError, StorageError) as error:
        run_logger().warning("the stamps of this run were not remembered: %s", error)
        run.warn([f"the stamps of this run were not remembered, against restores: {error}"])
