"""Schedules of Celery Beat, as operators edited them, become those of the deployments."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.schemas.objects import DeploymentSchedule
from sqlalchemy import Engine

from demo.servers import PrefectServer
from deployments.client import server as asked
from deployments.monitoring.job_state import read_job
from deployments.monitoring.lateness import windows
from deployments.setup.apply import apply
from maintenance import settings as settings_module
from maintenance.cli import main
from maintenance.database import dispose_engines
from maintenance.settings import Settings
from tests.support.beat import Beat
from tests.support.prefect_server import deployments, schedules

pytestmark = pytest.mark.slow


@pytest.fixture
def beat(environment: Settings, database: Engine) -> Beat:
    return Beat(database)


def imported(capsys: pytest.CaptureFixture[str], *options: str, status: int = 0) -> str:
    assert main(["import-beat-schedules", *options]) == status
    return capsys.readouterr().out


def active(job: str) -> list[DeploymentSchedule]:
    with asked() as client:
        return read_job(client, job).active


def test_what_operators_edited_is_taken_over_once_and_the_rest_is_left(
    restored: PrefectServer, beat: Beat, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = schedules(restored)
    beat.task("Purge Expired Submissions", beat.crontab("0 * * * *"))  # as it was deployed
    beat.task("Purge Expired Outputs", beat.crontab("30 1-5 * * mon-fri", "Europe/Vienna"))
    beat.task("Process Purge Retries", beat.interval(15, "minutes"))
    beat.task("Cleanup Stuck Runs", beat.crontab("*/10 * * * *"), enabled=False)
    beat.task("Cleanup Orphaned Containers", beat.interval(5, "seconds"))
    beat.task("Cleanup Idempotency Keys", beat.crontab("0 3 * * *"), kwargs='{"batch_size": 7}')
    extra = beat.task(
        "A second time", beat.crontab("0 14 * * *"), "validibot.cleanup_idempotency_keys"
    )
    beat.task("Clear Sessions", {"solar_id": 1})
    beat.task("celery.backend_cleanup", beat.crontab("0 4 * * *"), "celery.backend_cleanup")

    forecast = imported(capsys, "--dry-run")
    assert schedules(restored) == usual
    said = imported(capsys)
    assert said.replace("Changed:", "Would change:", 1) == forecast
    assert schedules(restored) == usual | {
        "purge-expired-outputs": [("30 1-5 * * 1-5", "Europe/Vienna", True)],
        "process-purge-retries": [("", "UTC", True)],
        "cleanup-stuck-runs": [("*/10 * * * *", "UTC", False)],
        "cleanup-idempotency-keys": [("0 14 * * *", "UTC", True), ("0 3 * * *", "UTC", True)],
    }
    (every,) = active("process-purge-retries")
    assert getattr(every.schedule, "interval", None) == timedelta(minutes=15)
    assert [line.strip() for line in said.splitlines()] == [
        "Changed:",
        (
            "purge-expired-outputs/default: schedule purge-expired-outputs:"
            " 0 * * * * UTC becomes 30 1-5 * * 1-5 Europe/Vienna"
        ),
        (
            "process-purge-retries/default: schedule process-purge-retries:"
            " */5 * * * * UTC becomes every 15 minutes"
        ),
        "cleanup-stuck-runs/default: schedule cleanup-stuck-runs: paused",
        f"cleanup-idempotency-keys/default: schedule beat-{extra} made: 0 14 * * * UTC, on",
        "As in Beat already:",
        "purge-expired-submissions/default: schedule purge-expired-submissions: 0 * * * * UTC, on",
        "cleanup-idempotency-keys/default: schedule cleanup-idempotency-keys: 0 3 * * * UTC, on",
        "Left:",
        "task 'celery.backend_cleanup' (celery.backend_cleanup) is none of the jobs",
        (
            "cleanup-orphaned-containers/default: task 'Cleanup Orphaned Containers':"
            " every 5 s is too often for such a job; the schedule here, */10 * * * * UTC, runs"
        ),
        (
            "cleanup-idempotency-keys/default: task 'Cleanup Idempotency Keys':"
            " its arguments are not taken over: set the deployment's parameters"
        ),
        (
            "cleanup-callback-receipts/default: Beat has no such task;"
            " the schedule here, 0 4 * * 0 UTC, runs"
        ),
        (
            "clear-sessions/default: task 'Clear Sessions': it follows the sun or a single date;"
            " the schedule here, 0 2 * * * UTC, runs"
        ),
    ]
    edited = deployments(restored)
    again = imported(capsys)
    assert again.startswith("Changed:\n  nothing\nAs in Beat already:\n")
    assert [one["schedules"] for one in deployments(restored).values()] == [
        one["schedules"] for one in edited.values()
    ]


def test_a_day_of_the_month_and_of_the_week_must_both_fit_as_celery_means_it(
    restored: PrefectServer, beat: Beat, capsys: pytest.CaptureFixture[str]
) -> None:
    beat.task("Clear Sessions", beat.crontab("0 22-1 1-7 * fri-mon"))
    imported(capsys)
    start = datetime(2027, 1, 1, tzinfo=UTC)
    hours = (start + timedelta(hours=number) for number in range(1, 24 * 90))
    expected = [
        hour
        for hour in hours
        if hour.hour in {22, 23, 0, 1} and hour.day <= 7 and hour.weekday() in {4, 5, 6, 0}
    ]
    assert len(expected) > 40
    assert windows(active("clear-sessions"), start, len(expected)) == expected


def test_a_task_that_beat_would_not_start_any_more_is_paused(
    restored: PrefectServer, beat: Beat, capsys: pytest.CaptureFixture[str]
) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    beat.task("Clear Sessions", beat.crontab("0 2 * * *"), expires=past)
    beat.task("Cleanup Stuck Runs", beat.crontab("*/10 * * * *"), one_off=True)
    assert "schedule clear-sessions: paused" in imported(capsys)
    assert active("clear-sessions") == []
    assert len(active("cleanup-stuck-runs")) == 1


def test_a_redeploy_keeps_what_was_taken_over(
    restored: PrefectServer, beat: Beat, capsys: pytest.CaptureFixture[str]
) -> None:
    beat.task("Purge Expired Outputs", beat.crontab("30 1-5 1 * mon-fri", "Europe/Vienna"))
    beat.task("Process Purge Retries", beat.interval(15, "minutes"))
    beat.task("Another time", beat.crontab("0 14 * * *"), "validibot.process_purge_retries")
    beat.task("Cleanup Stuck Runs", beat.crontab("*/20 * * * *"), enabled=False)
    imported(capsys)
    taken_over = schedules(restored)
    assert len(taken_over["process-purge-retries"]) == 2
    apply()
    assert schedules(restored) == taken_over
    again = imported(capsys)
    assert again.startswith("Changed:\n  nothing\n")


def test_without_beats_tables_nothing_is_done(
    deployed: PrefectServer, environment: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import-beat-schedules"]) == 1
    assert "this database has no table django_celery_beat_" in capsys.readouterr().err


def test_without_rights_on_beats_tables_the_statement_that_grants_them_is_told(
    deployed: PrefectServer,
    environment: Settings,
    beat: Beat,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    role = "beat reader"
    beat.run(f'CREATE ROLE "{role}" LOGIN')
    url = environment.url.set(drivername="postgresql", username=role)
    monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
    settings_module.settings.cache_clear()
    assert main(["import-beat-schedules", "--dry-run"]) == 1
    grant = re.search(r"GRANT SELECT .*$", capsys.readouterr().err.strip())
    assert grant is not None
    beat.run(grant.group())
    said = imported(capsys, "--dry-run")
    dispose_engines()
    beat.run(f'DROP OWNED BY "{role}"')
    beat.run(f'DROP ROLE "{role}"')
    assert "clear-sessions/default: Beat has no such task" in said
