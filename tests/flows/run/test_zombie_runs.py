"""Which runs are zombie runs: decided without a server."""

from datetime import UTC, datetime, timedelta

import pytest

from flows.run.zombie_runs import DEFAULT_HEARTBEAT, is_zombie, silence_limit

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMIT = timedelta(seconds=150)
TICK = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("silent_for", "zombie"),
    [
        (timedelta(0), False),
        (-TICK, False),  # another clock is ahead
        (LIMIT - TICK, False),
        (LIMIT, False),
        (LIMIT + TICK, True),
        (timedelta(days=1), True),
    ],
)
def test_2_8_a_run_is_a_zombie_once_it_is_silent_for_longer_than_the_limit(
    silent_for: timedelta, zombie: bool
) -> None:
    assert is_zombie(NOW - silent_for, NOW, LIMIT) is zombie


@pytest.mark.parametrize(
    ("observed_for", "zombie"),
    [
        (timedelta(0), False),
        (LIMIT - TICK, False),
        (LIMIT, True),
        (LIMIT + TICK, True),
    ],
)
def test_2_8_silence_counts_only_while_the_server_was_observed(
    observed_for: timedelta, zombie: bool
) -> None:
    silent_since = NOW - timedelta(days=1)
    assert is_zombie(silent_since, NOW, LIMIT, NOW - observed_for) is zombie
    assert not is_zombie(NOW - LIMIT, NOW, LIMIT, NOW - observed_for)


def test_a_live_run_may_miss_two_heartbeats() -> None:
    assert silence_limit(timedelta(seconds=30)) == timedelta(seconds=75)
    assert silence_limit(DEFAULT_HEARTBEAT) == timedelta(seconds=450)
