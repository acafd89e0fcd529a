"""The backlog is counted as a run counts it; a count that fails does not hide the others."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from flows.backlog import read_backlogs, time_budget
from flows.jobs import JOBS
from maintenance import settings as settings_module
from maintenance.report import Overdue
from maintenance.settings import Settings
from tests.support.stuck import Hanging
from tests.support.validibot import Validibot

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SLACK = timedelta(minutes=5)


def test_every_job_has_a_backlog_and_a_time_budget(environment: Settings) -> None:
    assert set(read_backlogs()) == set(JOBS)
    assert {time_budget(job) for job in JOBS} == {timedelta(minutes=4), timedelta(minutes=20)}


def test_a_time_budget_of_the_settings_counts(
    environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINTENANCE_TIME_BUDGET_SECONDS", "90")
    settings_module.settings.cache_clear()
    assert {time_budget(job) for job in JOBS} == {timedelta(seconds=90)}


def test_overdue_rows_are_counted_with_the_time_at_which_the_oldest_became_due(
    environment: Settings, validibot: Validibot
) -> None:
    now = datetime.now(UTC)
    due = now - 2 * DAY
    for moment in (due, now - DAY, now + DAY):
        validibot.session(moment)
        validibot.idempotency_key(moment)
    ended = validibot.run(None, output_retention_policy="STORE_1_DAY", output_expires_at=due)
    for received in (due - 30 * DAY, now - 29 * DAY):
        validibot.receipt(received, ended)
    validibot.submission(expires_at=due)
    queued = validibot.submission(retention_policy="DO_NOT_STORE", expires_at=None)
    validibot.queued(queued, next_retry_at=due)
    hanging = Hanging(validibot)
    hanging.run(None, started_at=due - timedelta(minutes=30))
    before = validibot.snapshot()
    found = read_backlogs()
    assert validibot.snapshot() == before
    assert {job: one.problem for job, one in found.items()} == dict.fromkeys(JOBS, "")
    rows = {job: one.overdue.rows if one.overdue else None for job, one in found.items()}
    assert rows == {
        "purge-expired-submissions": 1,
        "purge-expired-outputs": 1,
        "process-purge-retries": 1,
        "cleanup-stuck-runs": 1,
        "cleanup-orphaned-containers": None,
        "cleanup-idempotency-keys": 2,
        "cleanup-callback-receipts": 1,
        "clear-sessions": 2,
        "reclaim-residue": None,
    }
    for job, one in found.items():
        if one.overdue is not None:
            assert one.due_since is not None
            assert abs(one.due_since - due) < SLACK, job


def test_without_anything_overdue_nothing_is_due(
    environment: Settings, validibot: Validibot
) -> None:
    found = read_backlogs()
    assert {one.overdue for one in found.values() if one.overdue and one.overdue.rows} == set()
    assert {one.due_since for one in found.values()} == {None}


def test_a_count_that_fails_says_why_and_the_other_jobs_are_counted(
    environment: Settings, validibot: Validibot, monkeypatch: pytest.MonkeyPatch
) -> None:
    with validibot.engine.begin() as connection:
        connection.execute(text("DROP TABLE django_session"))
    monkeypatch.setenv("DEPLOYMENT_TARGET", "self_hosted")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/engine.sock")
    settings_module.settings.cache_clear()
    found = read_backlogs()
    assert "django_session" in found["clear-sessions"].problem
    assert "cannot be reached" in found["cleanup-orphaned-containers"].problem
    well = {job: one for job, one in found.items() if not one.problem}
    assert set(well) == set(JOBS) - {"clear-sessions", "cleanup-orphaned-containers"}
    assert well.pop("reclaim-residue").overdue is None
    assert {one.overdue == Overdue(rows=0) for one in well.values()} == {True}


def test_an_unreachable_database_is_reported_for_every_job(
    environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hidden-password@127.0.0.1:1/x")
    settings_module.settings.cache_clear()
    found = read_backlogs()
    assert set(found) == set(JOBS)
    (problem,) = {one.problem for one in found.values()}
    assert "Connection refused" in problem
    assert "hidden-password" not in problem
