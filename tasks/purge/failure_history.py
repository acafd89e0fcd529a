"""In how many consecutive runs an item has failed, for items without a retry row (SPEC 5.3).

The history is an artifact of the job on the Prefect server: a table of the items that failed in the
latest run, with the number of consecutive runs. A run without a server is not counted.
"""

import json
from collections.abc import Mapping
from typing import Any, cast

from prefect import task
from prefect.artifacts import Artifact, create_table_artifact

from maintenance.outside_text import as_markdown
from tasks.retrying import PUBLISHING_OPTIONS

ALERT_RUNS = 5
"""An item raises an alert after this many consecutive failed runs."""

MAX_ITEMS = 1_000
"""Most failing items in the table."""


@task(name="count consecutive failures", **PUBLISHING_OPTIONS)
def count_failures(job: str, causes: Mapping[str, str]) -> int:
    """Record this run's failed items; return how many have failed often enough for an alert.

    Args:
        job: the job's name; the artifact is named after it.
        causes: this run's failed items, each with its cause.
    """
    key = f"{job}-failures"
    latest = cast("Artifact | None", Artifact.get(key))  # sync: no event loop is running
    before = _counts(latest.data if latest else None)
    if not causes and not before:
        return 0
    # The cells of a table are shown as Markdown.
    shown = {as_markdown(item): as_markdown(cause) for item, cause in causes.items()}
    counts = {item: before.get(item, 0) + 1 for item in list(shown)[:MAX_ITEMS]}
    create_table_artifact(
        table=[
            {"item": item, "runs": number, "cause": shown[item]} for item, number in counts.items()
        ],
        key=key,
        description="Items that failed in the latest run, and in how many runs in a row",
    )
    return sum(number >= ALERT_RUNS for number in counts.values())


def _counts(data: object) -> dict[str, int]:
    """Read the table of an earlier run; an unreadable table counts as empty."""
    try:
        rows: Any = json.loads(data) if isinstance(data, str) else data
        return {str(row["item"]): int(row["runs"]) for row in rows or []}
    except (ValueError, TypeError, KeyError):
        return {}
