"""How long a run may be silent, and how a zombie run ends: decided without a server."""

from datetime import timedelta
from fnmatch import fnmatch
from uuid import UUID, uuid4

import pytest

from deployments.monitoring.zombie_runs import (
    LIMIT,
    Marked,
    crash_message,
    in_our_pool,
    limit_for,
)
from deployments.names import WORK_POOL
from deployments.setup.automations.rescue import DEAD_INFRASTRUCTURE, SILENCE
from deployments.watch import ZOMBIE_INTERVAL
from tests.deployments.monitoring.states import run as made_run

JOB = "clear-sessions"
MINUTE = timedelta(minutes=1)


def test_the_automations_have_their_time_and_a_dead_run_is_found_in_three_and_a_half_minutes() -> (
    None
):
    rescued = timedelta(seconds=100)
    assert rescued > SILENCE
    assert rescued + timedelta(seconds=45) < LIMIT
    assert LIMIT + timedelta(seconds=ZOMBIE_INTERVAL) == 3.5 * MINUTE


@pytest.mark.parametrize(
    ("deployment", "pool", "ours"),
    [(True, WORK_POOL, True), (True, "another", False), (False, None, False)],
)
def test_a_run_whose_heartbeat_is_not_ours_to_set_may_be_silent_for_longer(
    deployment: bool, pool: str | None, ours: bool
) -> None:
    run = made_run("RUNNING", deployment_id=uuid4() if deployment else None, work_pool_name=pool)
    assert in_our_pool(run) is ours
    assert limit_for(run) == timedelta(seconds=150 if ours else 450)


@pytest.mark.parametrize(
    ("ours", "successor", "wanted", "message", "rerun"),
    [
        (True, False, True, "No sign of life for 150 s", True),
        (True, False, False, "Its process is gone, and clear-sessions is paused or deleted", False),
        (True, True, True, f"Its process is gone: flow run {UUID(int=1)} has taken over", False),
        (True, True, False, f"Its process is gone: flow run {UUID(int=1)} has taken over", False),
        (False, False, True, "Its process is gone: no event for 450 s", False),
        (False, True, False, "Its process is gone: no event for 450 s", False),
    ],
)
def test_2_8_only_a_run_of_ours_that_is_wanted_and_has_no_successor_is_started_again(
    ours: bool, successor: bool, wanted: bool, message: str, rerun: bool
) -> None:
    run = made_run("RUNNING", deployment_id=uuid4(), work_pool_name=WORK_POOL if ours else "other")
    found = crash_message(JOB, run, UUID(int=1) if successor else None, wanted=wanted)
    assert found.removesuffix(" the job") == message
    assert any(fnmatch(found, pattern) for pattern in DEAD_INFRASTRUCTURE) is rerun
    assert Marked(JOB, run, found).rerun is rerun
    assert str(Marked(JOB, run, found)).endswith("; to be started again") is rerun
