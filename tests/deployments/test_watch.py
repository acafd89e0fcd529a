"""The watch for jobs that have not run: what is late, what is not, and who hears of it."""

import re
import signal
import socket
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from demo.processes import start_child, wait_until
from demo.servers import PrefectServer
from deployments.client import server as asked
from deployments.monitoring.job_state import JobState, read_job
from deployments.monitoring.lateness import MISSED_WINDOWS, late, windows
from deployments.names import WORK_POOL
from deployments.watch import AGAIN, NOT_RUN, Told, look, main
from flows.backlog import Backlog, time_budget
from flows.jobs import JOBS
from maintenance import settings as settings_module
from maintenance.containers.engine import why_no_engine
from maintenance.report import Overdue
from maintenance.settings import Settings
from tests.support.jobs_on_server import heartbeat, make_run
from tests.support.prefect_server import ask, deployments, edit_schedule
from tests.support.validibot import Validibot

ROOT = Path(__file__).parents[2]
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
SECOND = timedelta(seconds=1)
PERIODS = {
    "purge-expired-submissions": HOUR,
    "purge-expired-outputs": HOUR,
    "process-purge-retries": 5 * MINUTE,
    "cleanup-stuck-runs": 10 * MINUTE,
    "cleanup-orphaned-containers": 10 * MINUTE,
    "cleanup-idempotency-keys": DAY,
    "cleanup-callback-receipts": 7 * DAY,
    "clear-sessions": DAY,
}
WORKER = f"worker of {WORK_POOL}"

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _here(environment: Settings, deployed: PrefectServer) -> None:
    """Every test asks the shared server, and counts in a database of its own."""


def now() -> datetime:
    return datetime.now(UTC)


def state_of(job: str) -> JobState:
    with asked() as client:
        return read_job(client, job)


def deadline(state: JobState, since: datetime) -> datetime:
    """When a job that last did its work at `since` is late."""
    return windows(state.active, since, MISSED_WINDOWS)[-1] + time_budget(state.job)


def is_late(state: JobState, moment: datetime, backlog: Backlog | None = None) -> list[str]:
    return late(state, backlog or Backlog(), time_budget(state.job), moment)


def names(moment: datetime) -> set[str]:
    return {one.name for one in look(Told(), moment)}


def test_windows_follow_the_schedule_in_its_time_zone(restored: PrefectServer) -> None:
    job = "clear-sessions"
    cron = {"cron": "30 2 * * *", "timezone": "Europe/Vienna", "day_or": True}
    edit_schedule(restored, job, {"schedule": cron})
    found = windows(state_of(job).active, datetime(2027, 3, 26, 2, tzinfo=UTC), 3)
    assert [found[0], found[2]] == [  # the clocks change in between
        datetime(2027, 3, 27, 1, 30, tzinfo=UTC),
        datetime(2027, 3, 29, 0, 30, tzinfo=UTC),
    ]


def test_a_job_that_did_not_do_its_work_is_late_after_two_windows_and_its_time_budget(
    restored: PrefectServer,
) -> None:
    for job in JOBS:
        edit_schedule(restored, job, {"active": False})
        edit_schedule(restored, job, {"active": True})
        state = state_of(job)
        (schedule,) = state.active
        assert schedule.updated is not None
        limit = deadline(state, schedule.updated)
        waited = limit - time_budget(job) - schedule.updated
        assert PERIODS[job] < waited <= MISSED_WINDOWS * PERIODS[job], job
        assert time_budget(job) == JOBS[job].time_budget
        assert is_late(state, limit) == [], job
        (reason,) = is_late(state, limit + SECOND)
        assert f"has missed 2 windows of {JOBS[job].schedule} UTC" in reason


@pytest.mark.parametrize(
    ("state", "name", "message", "parameters", "counts"),
    [
        ("COMPLETED", "Completed", "1 of 1 done", {}, True),
        ("FAILED", "ItemsFailed", "1 of 2 done, 1 failed", {}, True),
        ("COMPLETED", "Skipped", "", {}, None),
        ("COMPLETED", "Skipped", "Skipped: flow run 1 holds the job", {}, False),
        ("COMPLETED", "Completed", "Dry run: 1 selected", {"dry_run": True}, False),
        ("FAILED", "Failed", "the database did not answer", {}, False),
        ("CRASHED", "Crashed", "No sign of life", {}, False),
        ("CANCELLED", "Cancelled", "", {}, False),
        ("RUNNING", "Running", "", {}, False),
    ],
)
def test_only_a_run_that_did_the_jobs_work_counts(
    deployed: PrefectServer,
    environment: Settings,
    state: str,
    name: str,
    message: str,
    parameters: dict[str, object],
    counts: bool | None,
) -> None:
    job = "process-purge-retries"
    if counts is None:  # there is no engine, and so nothing that the job could ever do
        message, counts = f"Skipped: {why_no_engine(environment)}", True
    before = now()
    started = make_run(deployed, job, state, name, message, **parameters)
    assert started >= before - SECOND
    found = state_of(job)
    assert found.last_run is not None
    assert found.last_run.start_time == started
    done = found.last_work.start_time if found.last_work else None
    assert (done == started) is counts
    limit = deadline(found, started)
    assert is_late(found, limit) == [] or not counts
    assert is_late(found, limit + SECOND) != []


def test_a_paused_job_is_never_late_and_a_resumed_one_has_its_windows_from_then_on(
    restored: PrefectServer,
) -> None:
    job = "cleanup-stuck-runs"
    overdue = Backlog(Overdue(rows=1, oldest_age_seconds=1), due_since=now() - DAY)
    edit_schedule(restored, job, {"active": False})
    assert is_late(state_of(job), now() + 30 * DAY, overdue) == []
    edit_schedule(restored, job, {"active": True})
    resumed = state_of(job)
    assert is_late(resumed, now(), overdue) == []
    assert len(is_late(resumed, now() + HOUR, overdue)) == 2


def test_a_deployment_that_is_paused_as_a_whole_is_not_late(restored: PrefectServer) -> None:
    job = "cleanup-idempotency-keys"
    path = f"/deployments/{deployments(restored)[job]['id']}"
    ask(restored, "PATCH", path, {"paused": True})
    assert is_late(state_of(job), now() + 30 * DAY) == []
    ask(restored, "PATCH", path, {"paused": False})
    assert is_late(state_of(job), now() + 30 * DAY) != []


def test_a_row_that_is_overdue_for_too_long_makes_its_job_late(deployed: PrefectServer) -> None:
    job = "clear-sessions"
    moment = now() + 30 * DAY
    started = make_run(deployed, job, "COMPLETED")
    since, state = started + HOUR, state_of(job)
    rows = Overdue(rows=1_234, oldest_age_seconds=1, estimated=False)
    backlog = Backlog(rows, due_since=since)
    limit = deadline(state, since)
    assert "rows are overdue" not in "".join(is_late(state, limit, backlog))
    reasons = is_late(state, limit + SECOND, backlog)
    assert any(reason.startswith("1,234 rows are overdue, the oldest for ") for reason in reasons)
    assert len(is_late(state, moment, backlog)) == 2


def test_everything_that_is_scheduled_is_late_when_nothing_ran_for_a_month(
    restored: PrefectServer, validibot: Validibot
) -> None:
    validibot.session(now() - DAY)
    edit_schedule(restored, "purge-expired-outputs", {"active": False})
    heartbeat(restored, "one")
    assert names(now() + 30 * DAY) == {*JOBS, WORKER} - {"purge-expired-outputs"}


def test_a_worker_that_is_silent_is_told_and_one_that_is_heard_of_is_not(
    deployed: PrefectServer,
) -> None:
    heartbeat(deployed, "one")
    heard = now()
    assert WORKER not in names(heard)
    assert WORKER not in names(heard + 90 * SECOND)
    assert WORKER in names(heard + 121 * SECOND)


def test_a_job_that_is_not_deployed_is_told(deployed: PrefectServer) -> None:
    job = "cleanup-callback-receipts"
    (reason,) = is_late(replace(state_of(job), deployment=None), now())
    assert "`python -m deployments` deploys it" in reason


def test_an_event_is_emitted_once_and_again_while_it_lasts(deployed: PrefectServer) -> None:
    moment = now() + 60 * DAY
    told = Told()
    problems = look(told, moment)
    assert {one.name for one in problems} == {*JOBS, WORKER}
    resources = {f"validibot-maintenance.job.{job}" for job in JOBS}
    resources.add("validibot-maintenance.worker")
    assert {one.resource for one in problems} == resources
    assert told.due(problems, moment + AGAIN - SECOND) == []
    assert told.due(problems, moment + AGAIN) == problems
    assert told.due([], moment) == []
    assert told.due(problems, moment) == problems  # it had ended, and is there again

    def emitted() -> set[str]:
        wanted = {"filter": {"event": {"name": [NOT_RUN]}}, "limit": 50}
        found = ask(deployed, "POST", "/events/filter", wanted)["events"]
        return {one["resource"]["prefect.resource.id"] for one in found if one["payload"]["reason"]}

    wait_until(lambda: emitted() >= resources, 30, "the events", [])


def test_a_database_that_is_away_is_a_finding(
    deployed: PrefectServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hidden-password@127.0.0.1:1/x")
    settings_module.settings.cache_clear()
    heartbeat(deployed, "one")
    assert main(["--once"]) == 1
    said = capsys.readouterr().out
    assert "NOT RUN backlog: what is overdue of any job cannot be counted: " in said
    assert "hidden-password" not in said
    monkeypatch.delenv("DATABASE_URL")
    settings_module.settings.cache_clear()
    assert main(["--once"]) == 1
    assert "set DATABASE_URL" in capsys.readouterr().out


def test_a_server_that_is_away_is_a_finding_beside_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@127.0.0.1:1/x")
    settings_module.settings.cache_clear()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://u:hidden-password@127.0.0.1:{closed.getsockname()[1]}/api"
        with temporary_settings({PREFECT_API_URL: address}):
            assert main(["--once"]) == 1
    said = capsys.readouterr().out
    assert re.findall("NOT RUN ([a-zA-Z ]+):", said) == ["backlog", "Prefect server"]
    assert "dead runs cannot be looked for: no Prefect server answers at " in said
    assert "hidden-password" not in said


def test_all_is_well_once_everything_is_served(
    deployed: PrefectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    heartbeat(deployed, "one")
    for job in JOBS:
        make_run(deployed, job, "COMPLETED")
    assert main(["--once"]) == 0
    assert capsys.readouterr().out.endswith(f"ok: {len(JOBS)} jobs watched\n")


def test_the_service_looks_again_and_ends_at_a_signal(
    deployed: PrefectServer, environment: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    child = start_child(
        "the watch",
        [sys.executable, "-m", "deployments.watch", "--interval", "1"],
        log,
        {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": environment.url.set(drivername="postgresql").render_as_string(
                hide_password=False
            ),
            **deployed.client_settings,
        },
    )
    wait_until(lambda: log.read_text().count(" UTC ") >= 2, 60, "two looks", [child])
    child.process.send_signal(signal.SIGTERM)
    assert child.process.wait(timeout=10) == 0


@pytest.mark.parametrize("options", [["--interval", "0"], ["--interval", "soon"], ["extra"]])
def test_bad_options_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    assert "usage: python -m deployments.watch" in capsys.readouterr().err
