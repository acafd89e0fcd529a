"""Every kind of a row in Beat's table, enabled and disabled, with what becomes of it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from demo.servers import PrefectServer
from deployments.__main__ import main as deploy
from deployments.client import server as asked
from deployments.monitoring.job_state import read_job
from deployments.monitoring.preflight import deployment_checks
from deployments.monitoring.status import as_table, read_status
from deployments.names import DEPLOYMENT
from maintenance.beat.tasks import REPLACED
from maintenance.checks.finding import carry_out
from maintenance.cli import main
from maintenance.settings import Settings
from tests.support.beat import NAMES, Beat
from tests.support.prefect_server import ask, deployments, edit_schedule, schedules

pytestmark = pytest.mark.slow

NAME = dict(zip(REPLACED, NAMES, strict=True))
"""The name of each job's task in Beat."""
PAST, FUTURE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
NO_TIMING = {
    "cleanup-orphaned-containers": "it runs once only",
    "cleanup-idempotency-keys": "it follows the sun or a single date",
    "cleanup-stuck-runs": "minute '61' cannot be read",
    "purge-expired-submissions": "every 5 s is too often for such a job",
}
"""Tasks of `mixed` whose schedule cannot be imported, and why."""


@pytest.fixture
def beat(environment: Settings, database: Engine) -> Beat:
    return Beat(database)


@pytest.fixture
def usual(restored: PrefectServer) -> dict[str, Any]:
    return schedules(restored)


def imported(capsys: pytest.CaptureFixture[str], *options: str, status: int = 0) -> str:
    assert main(["import-beat-schedules", *options]) == status
    return capsys.readouterr().out


def mixed(beat: Beat, *, enabled: bool) -> None:
    """One task for each job, each of another kind."""
    kinds: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
        "purge-expired-outputs": (beat.crontab("*/5 * * * *"), {}),
        "process-purge-retries": (beat.interval(90, "minutes"), {}),
        "purge-expired-submissions": (beat.interval(5, "seconds"), {}),
        "cleanup-orphaned-containers": ({"clocked_id": 1}, {"one_off": True}),
        "cleanup-idempotency-keys": ({"solar_id": 1}, {}),
        "cleanup-stuck-runs": (beat.crontab("61 * * * *"), {}),
        "cleanup-callback-receipts": (beat.crontab("0 5 * * 1"), {"expires": FUTURE}),
        "clear-sessions": (beat.crontab("0 6 * * *"), {"kwargs": '{"days": 3}'}),
    }
    for job, (when, row) in kinds.items():
        beat.task(NAME[job], when, enabled=enabled, **row)


@pytest.mark.parametrize("enabled", [True, False])
def test_a_row_of_every_kind_has_its_expected_end(
    usual: dict[str, Any],
    restored: PrefectServer,
    beat: Beat,
    capsys: pytest.CaptureFixture[str],
    enabled: bool,
) -> None:
    mixed(beat, enabled=enabled)
    said = imported(capsys)
    taken = {
        "purge-expired-outputs": [("*/5 * * * *", "UTC", enabled)],
        "process-purge-retries": [("", "UTC", enabled)],
        "cleanup-callback-receipts": [("0 5 * * 1", "UTC", enabled)],
        "clear-sessions": [("0 6 * * *", "UTC", enabled)],
    }
    kept = {job: [(*usual[job][0][:2], enabled)] for job in NO_TIMING}
    assert {job: schedules(restored)[job] for job in REPLACED} == taken | kept
    assert "*/5 * * * * UTC becomes every 90 minutes" in said
    assert "Beat would stop it on 2099-01-01: pause the schedule then" in said
    assert "its arguments are not taken over: set the deployment's parameters" in said
    for job, reason in NO_TIMING.items():
        line = f"{job}/default: task {NAME[job]!r}: {reason}"
        ours = f"; the schedule here, {usual[job][0][0]} UTC, runs" if enabled else ""
        assert f"  {line}{ours}\n" in said
        paused = f"{job}/default: schedule {job}: paused, because it is disabled in Beat"
        assert (paused in said) is not enabled
    assert imported(capsys).startswith("Changed:\n  nothing\n")


@pytest.mark.parametrize("enabled", [True, False])
def test_what_beat_does_not_start_yet_or_any_more_is_paused(
    usual: dict[str, Any],
    restored: PrefectServer,
    beat: Beat,
    capsys: pytest.CaptureFixture[str],
    enabled: bool,
) -> None:
    beat.task("Clear Sessions", beat.crontab("0 2 * * *"), expires=PAST, enabled=enabled)
    later = beat.crontab("0 3 * * *")
    beat.task("Cleanup Idempotency Keys", later, start_time=FUTURE, enabled=enabled)
    weekly = beat.crontab("0 4 * * 0")
    beat.task("Cleanup Callback Receipts", weekly, start_time=PAST, enabled=enabled)
    never = beat.crontab("0 0 30 2 *")
    beat.task("Purge Expired Outputs", never, enabled=enabled)
    said = imported(capsys)
    live = schedules(restored)
    assert live["clear-sessions"] == [("0 2 * * *", "UTC", False)]
    assert live["cleanup-idempotency-keys"] == [("0 3 * * *", "UTC", False)]
    assert live["cleanup-callback-receipts"] == [("0 4 * * 0", "UTC", enabled)]
    assert live["purge-expired-outputs"] == [("0 * * * *", "UTC", False)]
    assert "Beat would start it from 2099-01-01 on: resume the schedule then" in said
    assert "its start time (2026-01-01) has passed and is not taken over" in said
    assert "task 'Purge Expired Outputs': 0 0 30 2 * UTC never comes due" in said


def test_two_rows_for_one_job_become_two_schedules_each_with_its_own_switch(
    usual: dict[str, Any], restored: PrefectServer, beat: Beat, capsys: pytest.CaptureFixture[str]
) -> None:
    task = "validibot.clear_sessions"
    beat.task("Clear Sessions", beat.crontab("0 2 * * *"), enabled=False)
    second = beat.task("Once more", beat.interval(1, "days"), task)
    third = beat.task("At dawn", {"solar_id": 1}, task)
    beat.task("celery.backend_cleanup", beat.crontab("0 4 * * *"), "celery.backend_cleanup")
    said = imported(capsys)
    assert set(schedules(restored)["clear-sessions"]) == {
        ("0 2 * * *", "UTC", False),
        ("", "UTC", True),
    }
    assert f"schedule beat-{second} made: every day, on" in said
    assert (
        "task 'At dawn': it follows the sun or a single date; no schedule here replaces it" in said
    )
    assert "task 'celery.backend_cleanup' (celery.backend_cleanup) is none of the jobs" in said
    beat.run("DELETE FROM django_celery_beat_periodictask WHERE id = :id", id=second)
    said = imported(capsys)
    assert f"schedule beat-{second} stays, although Beat has no such task any more" in said
    assert f"beat-{third} stays" not in said


def test_an_untouched_validibot_changes_nothing(
    usual: dict[str, Any], restored: PrefectServer, beat: Beat, capsys: pytest.CaptureFixture[str]
) -> None:
    beat.own_tasks()
    said = imported(capsys)
    assert said.startswith("Changed:\n  nothing\n")
    assert "schedule process-purge-retries: every 5 minutes, on" in said
    assert schedules(restored) == usual


def test_parameters_of_a_schedule_survive_import_pause_and_apply(
    restored: PrefectServer, beat: Beat, capsys: pytest.CaptureFixture[str]
) -> None:
    name, given = "purge-expired-outputs", {"max_batches": 7}
    edit_schedule(restored, name, {"parameters": given})
    beat.task("Purge Expired Outputs", beat.crontab("30 * * * *"))

    def parameters() -> Any:
        (one,) = deployments(restored)[name]["schedules"]
        return one["parameters"]

    imported(capsys)
    assert parameters() == given
    beat.run("UPDATE django_celery_beat_periodictask SET enabled = false")
    imported(capsys)
    assert schedules(restored)[name] == [("30 * * * *", "UTC", False)]
    assert parameters() == given
    beat.run("UPDATE django_celery_beat_crontabschedule SET minute = '61'")
    beat.run("UPDATE django_celery_beat_periodictask SET enabled = true")
    edit_schedule(restored, name, {"active": True, "parameters": given})
    beat.run("UPDATE django_celery_beat_periodictask SET enabled = false")
    imported(capsys)
    assert schedules(restored)[name] == [("30 * * * *", "UTC", False)]
    assert parameters() == given
    assert deploy(["--reset-schedules"]) == 0
    assert schedules(restored)[name] == [("0 * * * *", "UTC", False)]
    assert parameters() == given


def test_a_line_that_never_comes_due_is_said_everywhere(
    restored: PrefectServer, environment: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    job = "clear-sessions"
    edit_schedule(restored, job, {"schedule": {"cron": "0 0 30 2 *", "timezone": "UTC"}})
    told = "0 0 30 2 * UTC, never comes due"
    assert deploy([]) == 0
    assert told in capsys.readouterr().out
    with asked() as client:
        assert read_job(client, job).schedule == told
    assert told in as_table(read_status())
    (found,) = [one for one in carry_out(deployment_checks()) if one.name == f"{job}/{DEPLOYMENT}"]
    assert (str(found.level), found.text) == ("error", told)
    assert "makes no runs of this deployment" in found.action


def test_10_13_taking_over_disables_beats_tasks_for_good(
    usual: dict[str, Any], restored: PrefectServer, beat: Beat, capsys: pytest.CaptureFixture[str]
) -> None:
    beat.own_tasks(last_run_at=datetime.now(UTC))
    beat.run(
        "UPDATE django_celery_beat_periodictask SET enabled = false, description = 'Mine.'"
        " WHERE name = 'Clear Sessions'"
    )
    beat.run("UPDATE django_celery_beat_periodictask SET expire_seconds = 60")
    audit = "Enforce Audit Log Retention"
    beat.task(audit, beat.crontab("30 2 * * *"), "validibot.enforce_audit_retention")
    columns = "enabled, expires, expire_seconds, description, last_run_at"
    before = beat.rows(columns)
    last_change = "SELECT last_update FROM django_celery_beat_periodictasks"
    moved = beat.run(last_change)

    forecast = imported(capsys, "--take-over", "--dry-run")
    assert beat.rows(columns) == before
    assert beat.run(last_change) == moved
    said = imported(capsys, "--take-over")
    assert forecast == said.replace("Changed:", "Would change:").replace(
        "Disabled in Beat:", "Would disable in Beat:"
    )
    told = said.partition("Disabled in Beat:\n")[2].splitlines()
    assert {line.partition("'")[2].partition("'")[0] for line in told} == set(NAMES)
    after = beat.rows("enabled, expires <= now(), expire_seconds IS NULL, description, last_run_at")
    mark = "Taken over by Validibot Maintenance"
    expected = dict.fromkeys(NAMES, (False, True, True, f"{mark} (was enabled). ", None))
    off_before = (False, True, True, f"{mark} (was disabled). Mine.", None)
    assert {name: after[name] for name in NAMES} == expected | {"Clear Sessions": off_before}
    assert beat.rows(columns)[audit] == before[audit]
    assert beat.run(last_change) > moved

    paused = {"clear-sessions": [("0 2 * * *", "UTC", False)]}
    assert schedules(restored) == usual | paused
    again = imported(capsys)
    assert again.startswith("Changed:\n  nothing\n")
    assert (
        "purge-expired-outputs/default: task 'Purge Expired Outputs' was taken over:"
        " the schedule here, 0 * * * * UTC, runs" in again
    )
    assert schedules(restored) == usual | paused
    beat.sync_schedules()  # Validibot's own set-up enables its tasks
    assert imported(capsys, "--take-over").endswith("Disabled in Beat:\n  nothing\n")
    assert schedules(restored) == usual | paused

    beat.run("UPDATE django_celery_beat_periodictask SET expires = NULL, enabled = true")
    assert imported(capsys).startswith(
        "Changed:\n  clear-sessions/default: schedule clear-sessions: resumed\n"
    )
    assert "task 'Clear Sessions'" in imported(capsys, "--take-over")


def test_10_13_nothing_is_disabled_while_a_deployment_is_missing(
    restored: PrefectServer, beat: Beat, capsys: pytest.CaptureFixture[str]
) -> None:
    beat.own_tasks()
    missing = deployments(restored)["clear-sessions"]["id"]
    ask(restored, "DELETE", f"/deployments/{missing}")
    said = imported(capsys, "--take-over", status=1)
    assert "Disabled in Beat" not in said
    assert {enabled for (enabled,) in beat.rows("enabled").values()} == {True}
    assert deploy([]) == 0


def test_10_13_after_a_restore_the_schedules_here_can_be_kept(
    usual: dict[str, Any], restored: PrefectServer, beat: Beat, capsys: pytest.CaptureFixture[str]
) -> None:
    beat.own_tasks()
    edit_schedule(restored, "clear-sessions", {"schedule": {"cron": "7 7 * * *"}})
    edited = schedules(restored)
    assert main(["import-beat-schedules", "--keep-schedules"]) == 1
    assert "--keep-schedules belongs to --take-over" in capsys.readouterr().err
    said = imported(capsys, "--take-over", "--keep-schedules")
    assert said.startswith("Changed:\n  nothing\nDisabled in Beat:\n  task 'Cleanup")
    assert {enabled for (enabled,) in beat.rows("enabled").values()} == {False}
    assert schedules(restored) == edited != usual
