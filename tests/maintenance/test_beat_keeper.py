"""Beat beside the jobs: when its tasks count as active, and where that is said (SPEC 10.13)."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import URL, Engine

from demo.embedded import EmbeddedServer
from deployments.monitoring.beat import beat_problems
from flows.jobs import JOBS
from maintenance import settings as settings_module
from maintenance.beat.crontab import to_crontab
from maintenance.beat.interval import describe
from maintenance.beat.keeper import ACTION, IRREGULAR, find_keeper
from maintenance.beat.tables import grant_reading
from maintenance.beat.tasks import REPLACED, BeatTask
from maintenance.beat.windows import never_due, windows_between
from maintenance.checks.beat import BEAT, beat_check
from maintenance.checks.finding import Finding, carry_out
from maintenance.cli import find
from maintenance.grants import ROLE, document
from maintenance.report import StopReason
from maintenance.report_markdown import to_markdown
from maintenance.settings import Settings
from tests.support.beat import Beat, documented_role, run_as_written
from tests.support.runs import run
from tests.support.validibot import DAY, TICK, Validibot

MINUTE = timedelta(minutes=1)


@pytest.fixture
def beat(environment: Settings, database: Engine) -> Beat:
    return Beat(database)


@pytest.fixture
def limited(
    environment: Settings,
    server: EmbeddedServer,
    database_url: URL,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Settings]:
    """The settings of the documented role, which has no privileges yet."""
    with documented_role(server.url("postgres"), database_url) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        settings_module.settings.cache_clear()
        yield settings_module.settings()


def now() -> datetime:
    return datetime.now(UTC)


def active(settings: Settings) -> set[str]:
    return {one.name for one in find_keeper(settings, "test").active}


def checked(settings: Settings) -> Finding:
    (found,) = carry_out([beat_check(settings)])
    return found


def test_10_13_all_eight_tasks_are_active_when_beat_has_just_started_them(
    beat: Beat, environment: Settings
) -> None:
    beat.own_tasks(last_run_at=now())
    beat.task("celery.backend_cleanup", beat.crontab("0 4 * * *"), "celery.backend_cleanup")
    found = find_keeper(environment, "test")
    assert {one.job for one in found.active} == set(REPLACED)
    assert set(REPLACED) <= set(JOBS)


def test_10_13_a_task_is_active_for_two_of_its_intervals(beat: Beat, environment: Settings) -> None:
    beat.task("Process Purge Retries", beat.interval(5, "minutes"))
    change = "UPDATE django_celery_beat_periodictask SET last_run_at = :at"
    beat.run(change, at=now() - 9 * MINUTE)
    assert active(environment) == {"Process Purge Retries"}
    beat.run(change, at=now() - 10 * MINUTE - TICK)
    assert active(environment) == set()
    beat.run(change, at=None)
    assert active(environment) == set()


def test_10_13_the_intervals_of_a_crontab_are_its_own_windows() -> None:
    weekly = to_crontab(("0", "4", "*", "*", "0"), "Europe/Vienna")  # Sundays, 03:00 UTC in winter
    ran = datetime(2026, 11, 1, 3, 0, 1, tzinfo=UTC)
    third = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
    assert windows_between(weekly, ran, third - TICK, 3) == 2
    assert windows_between(weekly, ran, third, 3) == 3
    both = to_crontab(("*/30", "22-1", "1-7", "*", "fri"), "UTC")
    first = datetime(2027, 1, 1, tzinfo=UTC)  # a Friday
    assert windows_between(both, first - TICK, first + 7 * DAY - TICK, 100) == 8


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"enabled": False}, False),
        ({"expires": datetime(2026, 1, 1, tzinfo=UTC)}, False),
        ({"expires": datetime(2099, 1, 1, tzinfo=UTC)}, True),
        ({"start_time": datetime(2099, 1, 1, tzinfo=UTC)}, False),
        ({"last_run_at": datetime(2026, 1, 1, tzinfo=UTC)}, False),
        ({"last_run_at": datetime(2099, 1, 1, tzinfo=UTC)}, True),
        ({"task": "validibot.enforce_audit_retention"}, False),
    ],
)
def test_10_13_only_what_beat_really_starts_counts(
    beat: Beat, environment: Settings, change: dict[str, Any], expected: bool
) -> None:
    row: dict[str, Any] = {"last_run_at": now()} | change
    beat.task("Clear Sessions", beat.crontab("0 2 * * *"), **row)
    assert active(environment) == ({"Clear Sessions"} if expected else set())


def test_10_13_a_task_without_a_computable_interval_is_active_for_two_days(
    beat: Beat, environment: Settings
) -> None:
    beat.task("Clear Sessions", {"solar_id": 1}, last_run_at=now() - 2 * IRREGULAR + MINUTE)
    assert active(environment) == {"Clear Sessions"}
    beat.run("UPDATE django_celery_beat_periodictask SET last_run_at = last_run_at - :d", d=MINUTE)
    assert active(environment) == set()


@pytest.mark.parametrize("when", ["infinity", "-infinity", "0001-01-01 BC", "20000-01-01"])
def test_times_that_python_cannot_hold_do_not_stop_the_check(
    beat: Beat, environment: Settings, when: str
) -> None:
    beat.task("Clear Sessions", beat.crontab("0 2 * * *"))
    for column in ("last_run_at", "expires", "start_time"):
        beat.run(
            f"UPDATE django_celery_beat_periodictask SET {column} = CAST(:at AS timestamptz)",
            at=when,
        )
        find_keeper(environment, "test")


def test_10_13_the_check_says_what_to_do(beat: Beat, environment: Settings) -> None:
    assert str(checked(environment).level) == "ok"
    beat.own_tasks()
    idle = checked(environment)
    assert (str(idle.level), idle.action) == ("warning", ACTION)
    beat.run("UPDATE django_celery_beat_periodictask SET last_run_at = now()")
    found = checked(environment)
    assert (str(found.level), found.action) == ("error", ACTION)
    assert "it still starts 8 tasks that they replace ('Cleanup Callback Receipts' at" in found.text
    assert "import-beat-schedules --take-over" in found.action
    beat.run("UPDATE django_celery_beat_periodictask SET enabled = false")
    assert str(checked(environment).level) == "ok"


def test_without_beats_tables_nothing_is_said(environment: Settings, validibot: Validibot) -> None:
    assert str(checked(environment).level) == "ok"
    assert beat_problems() == []
    report = run(JOBS["clear-sessions"].flow)
    assert (report.errors, report.warnings) == ([], [])


def test_the_preflight_holds_the_check(beat: Beat, environment: Settings) -> None:
    beat.own_tasks(last_run_at=now())
    (found,) = [one for one in find() if one.name == BEAT]
    assert str(found.level) == "error"


def test_10_13_the_watch_reports_a_problem(beat: Beat) -> None:
    beat.own_tasks(last_run_at=now())
    (found,) = beat_problems()
    assert found.name == "Celery Beat"
    assert found.text.endswith(ACTION)
    beat.run("UPDATE django_celery_beat_periodictask SET enabled = false")
    assert beat_problems() == []


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("job", sorted(REPLACED))
def test_10_13_the_report_of_each_run_has_an_error(
    beat: Beat, validibot: Validibot, job: str, dry_run: bool
) -> None:
    beat.own_tasks(last_run_at=now())
    report = run(JOBS[job].flow, dry_run=dry_run)
    assert report.stopped_because in {StopReason.DRAINED, StopReason.SKIPPED}
    (error,) = report.errors
    assert error.endswith(ACTION)
    assert f"ERROR: {error}" in report.summary()
    assert "## Errors" in to_markdown(report)
    assert json.loads(report.model_dump_json())["errors"] == [error]


def test_10_13_a_role_without_the_right_gets_a_warning(
    beat: Beat, limited: Settings, validibot: Validibot
) -> None:
    beat.own_tasks(last_run_at=now())
    run_as_written(beat.engine, document().replace(grant_reading(ROLE), ""))
    report = run(JOBS["clear-sessions"].flow)
    assert report.stopped_because is StopReason.DRAINED
    assert report.errors == []
    (told,) = report.warnings
    assert "GRANT SELECT (args, crontab_id" in told
    assert str(checked(limited).level) == "warning"
    assert beat_problems() == []


def test_10_13_the_documented_role_may_read_beats_tables(
    beat: Beat, limited: Settings, validibot: Validibot
) -> None:
    beat.own_tasks(last_run_at=now())
    run_as_written(beat.engine, document())
    assert len(active(limited)) == 8


def test_the_documented_role_needs_no_tables_of_beat(
    limited: Settings, validibot: Validibot
) -> None:
    run_as_written(validibot.engine, document())
    assert not find_keeper(limited, "test").present


def test_an_old_schema_is_named_by_its_columns(beat: Beat, environment: Settings) -> None:
    beat.own_tasks(last_run_at=now())
    beat.run("ALTER TABLE django_celery_beat_periodictask DROP COLUMN one_off")
    beat.run("ALTER TABLE django_celery_beat_crontabschedule DROP COLUMN timezone")
    found = checked(environment)
    assert str(found.level) == "warning"
    assert (
        "no column django_celery_beat_crontabschedule.timezone,"
        " django_celery_beat_periodictask.one_off" in found.action
    )


@pytest.mark.parametrize(
    ("line", "never"),
    [
        ("0 0 30 2 *", True),
        ("0 0 31 2,4,6,9,11 *", True),
        ("0 0 30,31 2 mon", True),
        ("0 0 29 2 *", False),
        ("0 0 29 2 mon", False),
        ("0 0 31 */2 *", False),
        ("0 0 1 1 *", False),
        ("0 0 * 2 *", False),
    ],
)
def test_a_line_that_no_date_matches_is_recognized(line: str, never: bool) -> None:
    minute, hour, day, month, weekday = line.split()
    assert never_due(to_crontab((minute, hour, day, month, weekday), "UTC")) is never


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (timedelta(minutes=1), "every minute"),
        (timedelta(minutes=15), "every 15 minutes"),
        (timedelta(minutes=90), "every 90 minutes"),
        (timedelta(hours=2), "every 2 hours"),
        (timedelta(days=1), "every day"),
        (timedelta(days=5000), "every 5,000 days"),
        (timedelta(seconds=90), "every 90 s"),
    ],
)
def test_an_interval_is_shown_with_its_length(interval: timedelta, expected: str) -> None:
    assert describe(interval) == expected
    assert BeatTask(1, "n", "t", None, interval).when == expected
