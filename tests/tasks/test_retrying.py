"""When a task is tried again (SPEC 2.9)."""

import pytest
from prefect import Task

from maintenance.errors import TransientDatabaseError
from tasks.expiry.expired_rows import count_expired, delete_expired, preview_expired
from tasks.preflight import choose_run_cutoff
from tasks.purge.outputs import purge_outputs, repair_output_deadlines
from tasks.purge.queued_submissions import discover_unqueued, purge_queued
from tasks.purge.submissions import purge_submissions, repair_overdue, repair_undated
from tasks.retrying import FIVE_MINUTES, HOURLY, TASK_OPTIONS, TEN_MINUTES, only_transient
from tests.support.runs import attempts_of

HOURLY_TASKS = (
    purge_submissions,
    repair_overdue,
    repair_undated,
    purge_outputs,
    repair_output_deadlines,
    delete_expired,
    preview_expired,
    count_expired,
    choose_run_cutoff,
)


def test_the_waits_double_from_their_base_and_stay_under_their_cap() -> None:
    assert HOURLY == [60, 120, 240]
    assert TEN_MINUTES == [60, 120, 240]
    assert FIVE_MINUTES == [30, 60, 120]
    assert TASK_OPTIONS["retry_jitter_factor"] > 0


@pytest.mark.parametrize("task", HOURLY_TASKS, ids=lambda task: str(task.name))
def test_tasks_of_hourly_and_daily_jobs_have_three_retries(task: Task[..., object]) -> None:
    assert (task.retries, task.retry_delay_seconds) == (3, HOURLY)
    assert task.retry_condition_fn is only_transient


@pytest.mark.parametrize("task", [discover_unqueued, purge_queued], ids=lambda task: str(task.name))
def test_tasks_of_the_queue_are_tried_sooner(task: Task[..., object]) -> None:
    assert (task.retries, task.retry_delay_seconds) == (3, FIVE_MINUTES)


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (TransientDatabaseError("away"), 4),
        (ConnectionResetError("away"), 4),
        (TimeoutError("slow"), 4),
        (ValueError("wrong"), 1),
        (KeyError("wrong"), 1),
    ],
)
def test_transient_errors_get_four_attempts_and_others_one(error: Exception, attempts: int) -> None:
    assert attempts_of(error) == attempts
