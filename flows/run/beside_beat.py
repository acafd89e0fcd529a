"""Saying in a run's report that Celery Beat still does the same work (SPEC 10.13)."""

from flows.run.prefect_context import run_logger
from flows.run.run import Run
from maintenance.beat.keeper import find_keeper
from maintenance.settings import settings


def look_for_beat(run: Run) -> None:
    """Add an error to the report while Beat is active, and a warning if that cannot be decided.

    The run does its work all the same: both systems lock the rows that they change.
    """
    try:
        found = find_keeper(settings(), run.job)
    except Exception as error:  # noqa: BLE001 - the run's work does not depend on it
        run_logger().warning("Celery Beat's tables could not be read: %s", error)
        return
    if found.unknown:
        run.warn([f"whether Celery Beat is at work is not known: {found.unknown}"])
    if found.problem:
        run.report.errors.append(found.problem)
        run_logger().error("%s", found.problem, extra={"action": "beat", "job": run.job})
