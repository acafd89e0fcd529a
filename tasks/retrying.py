"""When Prefect tries a task again (SPEC 2.9): transient errors only, three times, with backoff."""

from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from maintenance.stop_request import may_wait
from maintenance.transient import is_transient

RETRIES = 3
JITTER = 0.3


def delays(base: float, cap: float) -> list[float]:
    """Return the waits in seconds: `base` doubled each time, never above `cap`."""
    return [min(cap, base * 2**attempt) for attempt in range(RETRIES)]


HOURLY = delays(60, 600)
TEN_MINUTES = delays(60, 300)
FIVE_MINUTES = delays(30, 300)


def only_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Tell Prefect whether to wait: the error passes by itself, and nobody has asked to stop."""
    try:
        state.result(raise_on_failure=True)
    except Exception as error:  # noqa: BLE001 - every kind of error is judged here
        return is_transient(error) and may_wait()
    return False


TASK_OPTIONS: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delay_seconds": HOURLY,
    "retry_jitter_factor": JITTER,
    "retry_condition_fn": only_transient,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
"""The options of every task that touches the database."""
