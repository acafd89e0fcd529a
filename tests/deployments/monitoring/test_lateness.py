"""Lateness of a job, decided without a server."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from deployments.monitoring.lateness import late, windows
from flows.backlog import Backlog, time_budget
from flows.jobs import JOBS
from maintenance.report import Overdue
from maintenance.settings import Settings
from tests.deployments.monitoring.states import job_state, schedule

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
TICK = timedelta(microseconds=1)
T0 = datetime(2026, 3, 3, 0, 0, 30, tzinfo=UTC)  # a Tuesday
BUDGET = 4 * MINUTE
SECOND_WINDOWS = {
    "purge-expired-submissions": 2 * HOUR,
    "purge-expired-outputs": 2 * HOUR,
    "process-purge-retries": 10 * MINUTE,
    "cleanup-stuck-runs": 20 * MINUTE,
    "cleanup-orphaned-containers": 20 * MINUTE,
    "cleanup-idempotency-keys": DAY + 3 * HOUR,
    "cleanup-callback-receipts": 12 * DAY + 4 * HOUR,
    "clear-sessions": DAY + 2 * HOUR,
    "reclaim-residue": 12 * DAY + 5 * HOUR,
}
"""From midnight before T0 to the second window of each job's default schedule."""
HOURLY = "0 * * * *"
LIMIT = T0.replace(hour=2, second=0) + BUDGET
"""Until when an hourly job that last did its work at T0 is not late."""


@pytest.mark.parametrize("job", JOBS)
def test_a_job_is_late_after_two_windows_and_its_time_budget(
    job: str, environment: Settings
) -> None:
    assert time_budget(job) == JOBS[job].time_budget
    limit = T0.replace(second=0) + SECOND_WINDOWS[job] + time_budget(job)
    never = job_state(job, schedule(JOBS[job].schedule, T0))
    worked = job_state(job, schedule(JOBS[job].schedule, T0 - 30 * DAY), worked=T0)
    for state, text in (
        (never, "never did its work"),
        (worked, "last did its work at 2026-03-03 00:00 UTC"),
    ):
        assert late(state, Backlog(), time_budget(job), limit) == []
        (reason,) = late(state, Backlog(), time_budget(job), limit + TICK)
        assert reason == f"{text}, and has missed 2 windows of {JOBS[job].schedule} UTC"


@pytest.mark.parametrize(
    ("edited", "worked", "is_late"),
    [
        (T0, None, True),
        (T0, T0 - DAY, True),
        (T0 - DAY, T0, True),
        (T0 + HOUR, T0, False),  # its windows count from the edit
        (T0, T0 + HOUR, False),
        (T0 - DAY, T0 - TICK, True),
    ],
)
def test_windows_count_from_the_last_work_or_the_last_edit(
    edited: datetime, worked: datetime | None, is_late: bool
) -> None:
    state = job_state("purge-expired-outputs", schedule(HOURLY, edited), worked=worked)
    assert late(state, Backlog(), BUDGET, LIMIT) == []
    assert bool(late(state, Backlog(), BUDGET, LIMIT + TICK)) is is_late


@pytest.mark.parametrize(
    ("due", "is_late"),
    [(T0, True), (T0 - 30 * DAY, True), (T0 + HOUR, False), (None, False)],
)
def test_a_row_that_is_overdue_for_two_windows_and_the_time_budget_makes_its_job_late(
    due: datetime | None, is_late: bool
) -> None:
    state = job_state("purge-expired-outputs", schedule(HOURLY, T0), worked=LIMIT)
    rows = Overdue(rows=1_234, oldest_age_seconds=1, estimated=False)
    backlog = Backlog(rows, due_since=due)
    assert late(state, backlog, BUDGET, LIMIT) == []
    reasons = late(state, backlog, BUDGET, LIMIT + TICK)
    assert [reason.partition(", the oldest for ")[0] for reason in reasons] == (
        ["1,234 rows are overdue"] if is_late else []
    )


def test_both_reasons_are_given() -> None:
    backlog = Backlog(Overdue(rows=1, oldest_age_seconds=1), due_since=T0 - DAY)
    state = job_state("purge-expired-outputs", schedule(HOURLY, T0))
    assert len(late(state, backlog, BUDGET, LIMIT + TICK)) == 2


@pytest.mark.parametrize(("active", "paused"), [(False, False), (True, True), (False, True)])
def test_a_paused_job_is_never_late(active: bool, paused: bool) -> None:
    backlog = Backlog(Overdue(rows=1, oldest_age_seconds=1), due_since=T0 - DAY)
    state = job_state("clear-sessions", schedule(HOURLY, T0, active=active), paused=paused)
    assert state.paused
    assert late(state, backlog, BUDGET, T0 + 30 * DAY) == []
    assert late(job_state("clear-sessions"), backlog, BUDGET, T0 + 30 * DAY) == []


def test_one_active_schedule_is_enough_to_be_late() -> None:
    paused = schedule("* * * * *", T0, active=False)
    state = job_state("purge-expired-outputs", schedule(HOURLY, T0), paused)
    assert late(state, Backlog(), BUDGET, LIMIT) == []
    assert len(late(state, Backlog(), BUDGET, LIMIT + TICK)) == 1


def test_a_job_that_is_not_deployed_is_late_at_once() -> None:
    state = replace(job_state("clear-sessions"), deployment=None)
    (reason,) = late(state, Backlog(), BUDGET, T0)
    assert reason == "is not deployed, so it never runs; `python -m deployments` deploys it"


def test_windows_follow_the_schedule_in_its_time_zone() -> None:
    vienna = CronSchedule(cron="30 2 * * *", timezone="Europe/Vienna")
    found = windows([schedule(vienna, T0)], datetime(2027, 3, 26, 2, tzinfo=UTC), 3)
    assert [found[0], found[2]] == [  # the clocks change in between
        datetime(2027, 3, 27, 1, 30, tzinfo=UTC),
        datetime(2027, 3, 29, 0, 30, tzinfo=UTC),
    ]


def test_windows_of_several_schedules_of_every_kind_are_merged() -> None:
    every_ten = IntervalSchedule(interval=10 * MINUTE, anchor_date=T0.replace(second=0))
    daily = RRuleSchedule(rrule="DTSTART:20260301T000500Z\nRRULE:FREQ=DAILY", timezone="UTC")
    found = windows([schedule(HOURLY, T0), schedule(every_ten, T0), schedule(daily, T0)], T0, 3)
    assert [(one - T0.replace(second=0)) // MINUTE for one in found] == [5, 10, 20]
