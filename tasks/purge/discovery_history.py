"""When a job last read a whole table: at most once an hour (SPEC 10.11).

The time is kept in a Prefect variable of the job. A run without a server always reads.
"""

from datetime import datetime, timedelta

from prefect import task
from prefect.logging import get_run_logger
from prefect.variables import Variable

from tasks.retrying import PUBLISHING_OPTIONS

INTERVAL = timedelta(hours=1)


@task(name="is a discovery due", **PUBLISHING_OPTIONS)
def is_discovery_due(job: str, now: datetime) -> bool:
    """Return whether the job's last complete discovery is an hour old, or unknown.

    Args:
        job: the job's name.
        now: the database's time at the start of the run.
    """
    try:
        last = datetime.fromisoformat(str(Variable.get(_name(job))))
    except Exception:  # noqa: BLE001 - not recorded, unreadable, or no answer: the table is read
        return True
    return not now - INTERVAL < last <= now


@task(name="note a discovery", **PUBLISHING_OPTIONS)
def note_discovery(job: str, now: datetime) -> None:
    """Record that the job has completed a discovery."""
    try:
        Variable.set(_name(job), now.isoformat(), overwrite=True)
    except Exception as error:  # noqa: BLE001 - the next run reads the table once more
        get_run_logger().warning("the time of the discovery was not recorded: %s", error)


def _name(job: str) -> str:
    return f"{job}-discovery".replace("-", "_")
