"""Which runs did their job's work, and which workers are present: decided without a server."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import Worker

from deployments.monitoring.job_state import did_its_work, seen_lately, unseen_since
from maintenance.containers.engine import why_no_engine
from maintenance.settings import Settings
from tests.deployments.monitoring.states import run

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("state", "name", "message", "parameters", "counts"),
    [
        ("COMPLETED", "Completed", "1 of 1 done", {}, True),
        ("COMPLETED", "Completed", "1 of 1 done", {"dry_run": False}, True),
        ("FAILED", "ItemsFailed", "1 of 2 done, 1 failed", {}, True),
        ("COMPLETED", "Skipped", "Skipped: flow run 1 holds the job", {}, False),
        ("COMPLETED", "Completed", "Dry run: 1 selected", {"dry_run": True}, False),
        ("FAILED", "ItemsFailed", "1 failed", {"dry_run": True}, False),
        ("FAILED", "Failed", "Items failed: 1 of 2 done, 1 failed", {}, True),
        ("FAILED", "Failed", "Items failed: 1 failed", {"dry_run": True}, False),
        ("FAILED", "Failed", "the database did not answer", {}, False),
    ],
)
def test_only_an_ended_run_that_did_the_jobs_work_counts(
    state: str, name: str, message: str, parameters: dict[str, Any], counts: bool
) -> None:
    assert did_its_work(run(state, name, message, parameters=parameters)) is counts


def test_a_skipped_run_counts_if_there_can_never_be_work(environment: Settings) -> None:
    message = f"Skipped: {why_no_engine(environment)}"
    assert did_its_work(run("COMPLETED", "Skipped", message))


def test_a_run_without_a_state_does_not_count() -> None:
    assert not did_its_work(run("COMPLETED").model_copy(update={"state": None}))


def worker(heard: datetime | None, interval: int | None = 30) -> Worker:
    return Worker(
        id=uuid4(),
        name="one",
        work_pool_id=uuid4(),
        last_heartbeat_time=heard,
        heartbeat_interval_seconds=interval,
    )


@pytest.mark.parametrize(
    ("interval", "limit"),
    [(30, 120), (40, 120), (41, 123), (300, 900), (None, 120)],
)
def test_a_worker_is_present_for_three_heartbeats_or_two_minutes(
    interval: int | None, limit: int
) -> None:
    assert seen_lately(worker(NOW - limit * SECOND, interval), NOW)
    assert not seen_lately(worker(NOW - limit * SECOND - TICK, interval), NOW)


def test_a_worker_that_was_never_heard_is_not_present() -> None:
    assert not seen_lately(worker(None), NOW)


def test_since_when_no_worker_was_seen_is_named() -> None:
    assert unseen_since([]) == "none was ever seen, so no run starts"
    assert unseen_since([worker(NOW)]) == "none seen since 2026-03-01 12:00 UTC, so no run starts"
