"""What the watch reports, decided without a server or a database."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import Worker

from deployments.monitoring.job_state import JobState
from deployments.monitoring.problems import (
    REPEAT_AFTER,
    Problem,
    Reported,
    backlog_problems,
    find_problems,
)
from deployments.names import WORK_POOL
from flows.backlog import Backlog
from flows.jobs import JOBS
from tests.deployments.monitoring.states import job_state, schedule

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
NO_BACKLOG = dict.fromkeys(JOBS, Backlog())


def states(*, active: bool = True) -> list[JobState]:
    """All jobs, at work just now."""
    return [
        job_state(job, schedule(JOBS[job].schedule, NOW - DAY, active=active), worked=NOW)
        for job in JOBS
    ]


def worker(heard: datetime) -> Worker:
    return Worker(id=uuid4(), name="one", work_pool_id=uuid4(), last_heartbeat_time=heard)


def test_nothing_is_wrong_while_a_worker_is_present_and_all_jobs_are_at_work() -> None:
    assert find_problems(states(), [worker(NOW)], NO_BACKLOG, NOW) == []


def test_a_missing_worker_is_a_problem_only_if_something_is_scheduled() -> None:
    missing = Problem(
        "validibot-maintenance.worker",
        f"worker of {WORK_POOL}",
        "none was ever seen, so no run starts",
    )
    assert find_problems(states(), [], NO_BACKLOG, NOW) == [missing]
    assert find_problems(states(active=False), [], NO_BACKLOG, NOW) == []
    (silent,) = find_problems(states(), [worker(NOW - DAY)], NO_BACKLOG, NOW)
    assert silent.text == "none seen since 2026-02-28 12:00 UTC, so no run starts"


def test_each_late_job_is_a_problem_of_its_own() -> None:
    found = find_problems(states(), [worker(NOW + 30 * DAY)], NO_BACKLOG, NOW + 30 * DAY)
    assert [problem.name for problem in found] == list(JOBS)
    assert {problem.resource for problem in found} == {
        f"validibot-maintenance.job.{job}" for job in JOBS
    }


def test_an_invalid_schedule_does_not_hide_other_late_jobs() -> None:
    broken = states()
    cron = schedule("0 * * * *", NOW - DAY)
    cron.schedule = cron.schedule.model_copy(update={"cron": "no cron line"})
    broken[0] = job_state(broken[0].job, cron, worked=NOW)
    first, *others = find_problems(broken, [worker(NOW + DAY)], NO_BACKLOG, NOW + 30 * DAY)[1:]
    assert first.name == broken[0].job
    assert first.text.startswith("whether it is late cannot be computed: unexpected ")
    assert [problem.name for problem in others] == list(JOBS)[1:]


def test_backlogs_that_cannot_be_counted_are_one_problem_by_cause() -> None:
    assert backlog_problems(NO_BACKLOG) == []
    all_of_them = dict.fromkeys(JOBS, Backlog(problem="no answer"))
    (problem,) = backlog_problems(all_of_them)
    assert str(problem) == "backlog: what is overdue of any job cannot be counted: no answer"
    one, two, three, *_ = JOBS
    some = NO_BACKLOG | {
        one: Backlog(problem="no answer"),
        two: Backlog(problem="no table"),
        three: Backlog(problem="no answer"),
    }
    (problem,) = backlog_problems(some)
    assert problem.text == (
        f"what is overdue of {one}, {three} cannot be counted: no answer;"
        f" what is overdue of {two} cannot be counted: no table"
    )


@pytest.mark.parametrize(
    ("later", "again"),
    [(timedelta(0), False), (REPEAT_AFTER - TICK, False), (REPEAT_AFTER, True), (DAY, True)],
)
def test_a_problem_is_reported_once_and_every_hour_while_it_lasts(
    later: timedelta, again: bool
) -> None:
    problem, other = Problem("a", "a", "late"), Problem("b", "b", "late")
    reported = Reported()
    assert reported.due([problem], NOW) == [problem]
    assert reported.due([problem], NOW) == [problem]  # it could not be sent
    reported.add([problem], NOW)
    assert reported.due([problem, other], NOW + later) == ([problem, other] if again else [other])


def test_a_problem_that_had_ended_is_reported_at_once() -> None:
    problem, reported = Problem("a", "a", "late"), Reported()
    reported.add([problem], NOW)
    assert reported.due([], NOW) == []
    assert reported.due([problem], NOW) == [problem]
