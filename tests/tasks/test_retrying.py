"""When a task is tried again (SPEC 2.9)."""

import pytest
from prefect import Task

from maintenance.errors import StatementTimeout, TransientDatabaseError
from tasks.expiry.expired_rows import count_expired, delete_expired, preview_expired
from tasks.preflight import choose_run_cutoff
from tasks.purge.outputs import purge_outputs, repair_output_deadlines
from tasks.purge.queued_submissions import discover_unqueued, purge_queued
from tasks.purge.submissions import purge_submissions, repair_overdue, repair_undated
from tasks.retrying import BACKOFF, SHORT_BACKOFF, TASK_OPTIONS, no_time_out, only_transient
from tests.support.runs import attempts_of

TASKS = (
    purge_submissions,
    repair_overdue,
    repair_undated,
    purge_outputs,
    repair_output_deadlines,
    delete_expired,
    preview_expired,
    choose_run_cutoff,
)


def test_each_delay_is_twice_the_one_before() -> None:
    assert BACKOFF == [60, 120, 240]
    assert SHORT_BACKOFF == [30, 60, 120]
    assert TASK_OPTIONS["retry_jitter_factor"] > 0


@pytest.mark.parametrize("task", TASKS, ids=lambda task: str(task.name))
def test_tasks_have_three_retries(task: Task[..., object]) -> None:
    assert (task.retries, task.retry_delay_seconds) == (3, BACKOFF)
    assert task.retry_condition_fn is only_transient


def test_counts_are_retried_but_for_a_time_out() -> None:
    assert (count_expired.retries, count_expired.retry_delay_seconds) == (3, BACKOFF)
    assert count_expired.retry_condition_fn is no_time_out
    assert attempts_of(StatementTimeout("slow"), count_expired) == 1
    assert attempts_of(TransientDatabaseError("away"), count_expired) == 4


@pytest.mark.parametrize("task", [discover_unqueued, purge_queued], ids=lambda task: str(task.name))
def test_tasks_of_the_job_of_every_five_minutes_are_retried_sooner(task: Task[..., object]) -> None:
    assert (task.retries, task.retry_delay_seconds) == (3, SHORT_BACKOFF)


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
