"""When Prefect retries a task (SPEC 2.9): transient errors only, three times, with backoff."""

from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from maintenance.errors import StatementTimeout
from maintenance.stop_request import may_wait
from maintenance.transient import is_transient
from tasks.patience import tell_the_wait, waits_for

BACKOFF = [60.0, 120.0, 240.0]
"""Seconds before each retry of a task."""

SHORT_BACKOFF = [30.0, 60.0, 120.0]
"""The same, for the job that is scheduled every five minutes."""


def only_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Return whether Prefect should retry: the error is transient and no stop was requested.

    A run by hand waits only with patience (`tasks.patience`).
    """
    try:
        state.result(raise_on_failure=True)
    except Exception as error:  # noqa: BLE001 - errors of every kind are classified here
        if not (is_transient(error) and waits_for(error) and may_wait()):
            return False
        delays: object = task.retry_delay_seconds  # a number, where all waits are equal
        if isinstance(delays, list) and 0 < run.run_count <= len(delays):
            tell_the_wait(error, delays[run.run_count - 1])
        return True
    return False


def no_time_out(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Return the same, but False for a statement time-out: a count would take as long again."""
    error = state.result(raise_on_failure=False)
    return not isinstance(error, StatementTimeout) and only_transient(task, run, state)


TASK_OPTIONS: dict[str, Any] = {
    "retries": len(BACKOFF),
    "retry_delay_seconds": BACKOFF,
    "retry_jitter_factor": 0.3,
    "retry_condition_fn": only_transient,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
"""The options of every task that uses the database."""

COUNT_OPTIONS: dict[str, Any] = {**TASK_OPTIONS, "retry_condition_fn": no_time_out}
"""The options of the tasks that count what a run has left."""

PUBLISHING_OPTIONS: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [1, 2, 4],
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
"""The options of tasks that store an artifact on the Prefect server."""
