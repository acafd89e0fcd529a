"""Purges beside a live application and beside each other (SPEC 2.4, 5.1)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Engine, text

from flows.clear_sessions import clear_sessions
from flows.purge_expired_submissions import purge_expired_submissions
from maintenance import schema
from maintenance.budget import SliceBudget
from maintenance.cutoff import Cutoff
from maintenance.settings import Settings, settings
from tasks.purge.options import PurgeOptions
from tasks.purge.submissions import purge_submissions
from tests.support.hooks import CLAIM, STAMP, at_statement
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

JOB = purge_expired_submissions.name


@pytest.fixture(autouse=True)
def _environment(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A short lock timeout, because the tests are about what happens after it."""
    monkeypatch.setenv("MAINTENANCE_LOCK_TIMEOUT_SECONDS", "0.1")
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_a_run_that_becomes_active_after_the_claim_defers_its_submission(
    validibot: Validibot, database: Engine
) -> None:
    kept, gone = validibot.submission(), validibot.submission()
    run_id = validibot.run(kept)
    validibot.file(f"runs/{validibot.org_id}/{run_id}/input.json")
    before = validibot.row(schema.submissions, kept)

    def restart(_connection: Any) -> None:
        with database.begin() as application:
            query = "UPDATE validations_validationrun SET status = 'RUNNING' WHERE id = :id"
            application.execute(text(query), {"id": run_id})

    with at_statement(JOB, CLAIM, restart) as met:
        report = run(purge_expired_submissions, as_of=NOW)
    assert met
    assert (report.done, report.deferred, report.failed) == (1, 1, 0)
    assert validibot.purged() == {gone}
    assert validibot.row(schema.submissions, kept) == before
    assert len(validibot.files()) == 1


def test_a_deadline_that_moves_after_the_repair_saves_its_submission(
    validibot: Validibot, database: Engine
) -> None:
    kept = validibot.submission()
    run_id = validibot.run(kept)

    def finish_later(_connection: Any) -> None:
        with database.begin() as application:
            query = "UPDATE validations_validationrun SET ended_at = :end WHERE id = :id"
            application.execute(text(query), {"id": run_id, "end": NOW - DAY})

    with at_statement(JOB, CLAIM, finish_later, times=2) as met:
        report = run(purge_expired_submissions, as_of=NOW)
    assert met
    assert report.done == 0
    assert validibot.purged() == set()


def test_a_run_that_is_being_created_waits_for_the_purge_and_is_not_refused(
    validibot: Validibot, database: Engine
) -> None:
    gone = validibot.submission()
    results: list[object] = []
    threads: list[Thread] = []

    def create() -> None:
        results.append(validibot.run(gone, status="PENDING", ended_at=None))

    def start(_connection: Any) -> None:
        threads.append(Thread(target=create))
        threads[0].start()
        threads[0].join(0.2)
        assert not results, "the foreign key must be waiting for the claim"

    with at_statement(JOB, STAMP, start, before=True) as met:
        report = run(purge_expired_submissions, as_of=NOW)
    assert met
    threads[0].join(10)
    assert set(results) == set(validibot.rows(schema.runs))
    assert (report.done, report.failed) == (1, 0)
    assert validibot.purged() == {gone}


def test_two_purges_at_once_share_the_work_and_meet_no_item_twice(
    validibot: Validibot, database: Engine
) -> None:
    gone = {validibot.submission() for _ in range(40)}
    cutoff = Cutoff(NOW, NOW)
    options = PurgeOptions(JOB, batch_size=3)

    def work() -> int:
        return purge_submissions.fn(cutoff, None, SliceBudget(30), options).result.done

    with ThreadPoolExecutor(2) as pool:
        done = [future.result() for future in [pool.submit(work), pool.submit(work)]]
    assert sum(done) == 40
    assert validibot.purged() == gone


def test_a_submission_that_the_application_has_locked_is_left_and_the_others_go(
    validibot: Validibot, database: Engine
) -> None:
    locked, *others = (validibot.submission() for _ in range(6))
    with database.begin() as application:
        application.execute(
            text("SELECT 1 FROM submissions_submission WHERE id = :id FOR UPDATE"), {"id": locked}
        )
        report = run(purge_expired_submissions, as_of=NOW, batch_size=2)
    assert validibot.purged() == set(others)
    assert (report.done, report.failed) == (5, 0)
    assert report.overdue is not None
    assert report.overdue.rows == 1
    run(purge_expired_submissions, as_of=NOW)
    assert validibot.purged() == {locked, *others}


def test_a_run_that_the_application_has_locked_defers_its_submission_alone(
    validibot: Validibot, database: Engine
) -> None:
    submissions = [validibot.submission() for _ in range(6)]
    runs = [validibot.run(submission) for submission in submissions]
    with database.begin() as application:
        query = "UPDATE validations_validationrun SET error = 'x' WHERE id = :id"
        application.execute(text(query), {"id": runs[2]})
        report = run(purge_expired_submissions, as_of=NOW)
    assert validibot.purged() == set(submissions) - {submissions[2]}
    assert (report.done, report.failed) == (5, 0)
    assert report.deferred > 0
    assert validibot.rows(schema.purge_retries) == {}
    run(purge_expired_submissions, as_of=NOW)
    assert validibot.purged() == set(submissions)


def test_a_submission_that_is_deleted_beside_the_purge_is_no_failure(
    validibot: Validibot, database: Engine
) -> None:
    deleted, gone = validibot.submission(), validibot.submission()

    def delete(_connection: Any) -> None:
        with database.begin() as application:
            query = "DELETE FROM submissions_submission WHERE id = :id"
            application.execute(text(query), {"id": deleted})

    with at_statement(JOB, CLAIM, delete, before=True) as met:
        report = run(purge_expired_submissions, as_of=NOW)
    assert met
    assert (report.done, report.failed) == (1, 0)
    assert set(validibot.rows(schema.submissions)) == {gone} == validibot.purged()


def test_a_session_that_is_locked_stays_and_one_that_was_renewed_lives(
    validibot: Validibot, database: Engine
) -> None:
    locked, renewed, *others = (validibot.session(NOW - n * DAY) for n in range(1, 8))
    with database.begin() as application:
        application.execute(
            text("SELECT 1 FROM django_session WHERE session_key = :key FOR UPDATE"),
            {"key": locked},
        )
        application.execute(
            text("UPDATE django_session SET expire_date = :later WHERE session_key = :key"),
            {"key": renewed, "later": NOW + DAY},
        )
        report = run(clear_sessions, as_of=NOW, batch_size=2)
        assert report.done == len(others)
    assert set(validibot.rows(schema.sessions)) == {locked, renewed}
    assert run(clear_sessions, as_of=NOW).done == 1
    assert set(validibot.rows(schema.sessions)) == {renewed}
