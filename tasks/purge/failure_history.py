"""How often in a row an item has failed, where Validibot's tables do not remember it (SPEC 5.3).

The history is the job's own artifact: a table of the items that failed in the latest run, with
the number of consecutive runs. It lives on the Prefect server, where an operator can look at it;
a run without a server does not count.
"""

import json
from collections.abc import Mapping
from typing import Any, cast

from prefect import task
from prefect.artifacts import Artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

ALERT_RUNS = 5
"""From so many failed runs in a row on, an item raises an alert."""

MAX_ITEMS = 1_000
"""So many failing items are remembered."""


@task(
    name="count consecutive failures",
    retries=3,
    retry_delay_seconds=[1, 2, 4],
    cache_policy=NO_CACHE,
    persist_result=False,
)
def count_failures(job: str, causes: Mapping[str, str]) -> int:
    """Write down this run's failed items; return how many have failed often enough for an alert.

    Args:
        job: the job's name; the artifact is named after it.
        causes: this run's failed items, each with its cause.
    """
    key = f"{job}-failures"
    latest = cast("Artifact | None", Artifact.get(key))  # not a coroutine: this is no event loop
    before = _counts(latest.data if latest else None)
    if not causes and not before:
        return 0
    counts = {item: before.get(item, 0) + 1 for item in list(causes)[:MAX_ITEMS]}
    create_table_artifact(
        table=[
            {"item": item, "runs": number, "cause": causes[item]} for item, number in counts.items()
        ],
        key=key,
        description="Items that failed in the latest run, and in how many runs in a row",
    )
    return sum(number >= ALERT_RUNS for number in counts.values())


def _counts(data: object) -> dict[str, int]:
    """Read the table of an earlier run; what cannot be read counts as nothing."""
    try:
        rows: Any = json.loads(data) if isinstance(data, str) else data
        return {str(row["item"]): int(row["runs"]) for row in rows or []}
    except (ValueError, TypeError, KeyError):
        return {}
