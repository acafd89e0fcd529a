"""The watch on a real server and database; its rules are tested in monitoring/."""

import re
import signal
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from sqlalchemy import Engine

from demo.processes import start_child, wait_until
from demo.servers import PrefectServer
from deployments.client import server as asked
from deployments.monitoring.job_state import JobState, read_job
from deployments.monitoring.lateness import late
from deployments.monitoring.problems import NOT_RUN, REPEAT_AFTER, Reported
from deployments.names import WORK_POOL
from deployments.watch import check, main
from flows.backlog import Backlog, time_budget
from flows.jobs import JOBS
from maintenance import settings as settings_module
from maintenance.report import Overdue
from maintenance.settings import Settings
from tests.support.beat import Beat
from tests.support.jobs_on_server import heartbeat, make_run
from tests.support.prefect_server import ask, deployments, edit_schedule
from tests.support.validibot import Validibot

SCHEDULED = {name for name, job in JOBS.items() if not job.off_at_first}
"""The jobs whose schedules start runs as they are deployed."""
ROOT = Path(__file__).parents[2]
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
SECOND = timedelta(seconds=1)
WORKER = f"worker of {WORK_POOL}"

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _here(environment: Settings, deployed: PrefectServer) -> None:
    """Every test uses the shared server, and counts in a database of its own."""


def now() -> datetime:
    return datetime.now(UTC)


def state_of(job: str) -> JobState:
    with asked() as client:
        return read_job(client, job)


def is_late(state: JobState, moment: datetime, backlog: Backlog | None = None) -> list[str]:
    return late(state, backlog or Backlog(), time_budget(state.job), moment)


def names(moment: datetime) -> set[str]:
    return {one.name for one in check(Reported(), moment)}


@pytest.mark.parametrize(
    ("state", "name", "counts"),
    [
        ("FAILED", "ItemsFailed", True),
        ("COMPLETED", "Skipped", False),
        ("CRASHED", "Crashed", False),
        ("CANCELLED", "Cancelled", False),
        ("RUNNING", "Running", False),
    ],
)
def test_only_a_run_that_did_the_jobs_work_counts(
    deployed: PrefectServer, state: str, name: str, counts: bool
) -> None:
    job = "process-purge-retries"
    before = now()
    started = make_run(deployed, job, state, name)
    assert started >= before - SECOND
    found = state_of(job)
    assert found.last_run is not None
    assert found.last_run.start_time == started
    done = found.last_work.start_time if found.last_work else None
    assert (done == started) is counts


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


def test_everything_that_is_scheduled_is_late_when_nothing_ran_for_a_month(
    restored: PrefectServer, validibot: Validibot
) -> None:
    validibot.session(now() - DAY)
    edit_schedule(restored, "purge-expired-outputs", {"active": False})
    heartbeat(restored, "one")
    assert names(now() + 30 * DAY) == {*SCHEDULED, WORKER} - {"purge-expired-outputs"}


def test_a_silent_worker_is_a_problem_and_one_that_sends_heartbeats_is_not(
    deployed: PrefectServer,
) -> None:
    heartbeat(deployed, "one")
    heard = now()
    assert WORKER not in names(heard)
    assert WORKER not in names(heard + 90 * SECOND)
    assert WORKER in names(heard + 121 * SECOND)


def test_an_event_is_emitted_once_and_again_while_it_lasts(deployed: PrefectServer) -> None:
    moment = now() + 60 * DAY
    reported = Reported()
    problems = check(reported, moment)
    assert {one.name for one in problems} == {*SCHEDULED, WORKER}
    resources = {f"validibot-maintenance.job.{job}" for job in SCHEDULED}
    resources.add("validibot-maintenance.worker")
    assert {one.resource for one in problems} == resources
    assert reported.due(problems, moment + REPEAT_AFTER - SECOND) == []
    assert reported.due(problems, moment + REPEAT_AFTER) == problems

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
    assert "cannot check for zombie runs: no Prefect server answers at " in said
    assert "hidden-password" not in said


def test_all_is_well_once_everything_is_served(
    deployed: PrefectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    heartbeat(deployed, "one")
    for job in JOBS:
        make_run(deployed, job, "COMPLETED")
    assert main(["--once"]) == 0
    assert capsys.readouterr().out.endswith(f"ok: {len(JOBS)} jobs watched\n")


def test_the_service_checks_again_and_ends_at_a_signal(
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
    wait_until(lambda: log.read_text().count(" UTC ") >= 2, 60, "two checks", [child])
    child.process.send_signal(signal.SIGTERM)
    assert child.process.wait(timeout=10) == 0


@pytest.mark.parametrize("options", [["--interval", "0"], ["--interval", "soon"], ["extra"]])
def test_bad_options_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    assert "usage: python -m deployments.watch" in capsys.readouterr().err


def test_6_5_continuations_that_validibot_does_not_finish_are_reported(
    deployed: PrefectServer, validibot: Validibot
) -> None:
    waiting = validibot.run(None, status="RUNNING", started_at=now(), ended_at=None)
    validibot.continuation(waiting, state="PENDING", created=now() - 59 * MINUTE)
    assert "continuations" not in names(now())
    validibot.continuation(waiting, state="DISPATCHED", created=now() - 61 * MINUTE)
    assert "continuations" in names(now())


def test_10_13_celery_beat_at_work_is_a_problem(database: Engine) -> None:
    beat = Beat(database)
    beat.own_tasks(last_run_at=now())
    assert "Celery Beat" in names(now())
    beat.run("UPDATE django_celery_beat_periodictask SET enabled = false")
    assert "Celery Beat" not in names(now())
