"""process-purge-retries does what SPEC 5.4 says, row by row."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from flows.process_purge_retries import process_purge_retries
from maintenance import schema
from maintenance.report import Report
from maintenance.settings import Settings
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, TICK, Validibot

HOUR = timedelta(hours=1)
BACKOFF = {1: 60, 2: 300, 3: 3_600, 4: 21_600, 5: 86_400, 6: 86_400, 20: 86_400}
DO_NOT_STORE = {"retention_policy": "DO_NOT_STORE", "expires_at": None}


@pytest.fixture(autouse=True)
def _environment(environment: Settings) -> None:
    """Every test here runs against its own database and storage."""


def process(**parameters: Any) -> Report:
    return run(process_purge_retries, **{"as_of": NOW, **parameters})


def test_a_row_that_is_due_at_the_cutoff_is_worked_and_a_later_one_waits(
    validibot: Validibot,
) -> None:
    due, early = validibot.submission(**DO_NOT_STORE), validibot.submission(**DO_NOT_STORE)
    late = validibot.submission(**DO_NOT_STORE)
    validibot.queued(due, next_retry_at=NOW)
    validibot.queued(early, next_retry_at=NOW - DAY)
    waiting = validibot.queued(late, next_retry_at=NOW + TICK)
    report = process()
    assert validibot.purged() == {due, early}
    assert set(validibot.rows(schema.purge_retries)) == {waiting}
    assert (report.selected, report.done) == (2, 2)


@pytest.mark.parametrize(
    "policy", ["DO_NOT_STORE", "STORE_30_DAYS", "STORE_PERMANENTLY", "ANYTHING"]
)
def test_a_queued_row_is_purged_whatever_its_policy_and_deadline(
    validibot: Validibot, policy: str
) -> None:
    gone = validibot.submission(retention_policy=policy, expires_at=NOW + 9 * DAY)
    validibot.queued(gone)
    process()
    assert validibot.purged() == {gone}


def test_files_and_values_go_as_in_every_purge_of_a_submission(validibot: Validibot) -> None:
    key = "submissions/1.json"
    validibot.file(key)
    gone = validibot.submission(input_file=key, **DO_NOT_STORE)
    run_id = validibot.run(gone)
    step_id = validibot.step_run(run_id)
    validibot.file(f"runs/{validibot.org_id}/{run_id}/input.json")
    validibot.queued(gone)
    report = process()
    assert validibot.files() == set()
    assert validibot.row(schema.step_runs, step_id)["input_values"] == {}
    assert report.files == 2


def test_an_active_run_postpones_by_five_minutes_and_counts_no_attempt(
    validibot: Validibot,
) -> None:
    busy = validibot.submission(**DO_NOT_STORE)
    validibot.run(busy, status="RUNNING", ended_at=None)
    row = validibot.queued(busy, attempt_count=2, last_error="before", last_attempt_at=NOW - DAY)
    before = validibot.row(schema.purge_retries, row)
    started = run(process_purge_retries, dry_run=True).as_of
    report = process()
    after = validibot.row(schema.purge_retries, row)
    assert started + timedelta(minutes=5) < after["next_retry_at"] < started + timedelta(minutes=6)
    assert after == before | {"next_retry_at": after["next_retry_at"]}
    assert (report.deferred, report.failed) == (1, 0)
    assert validibot.purged() == set()


def test_the_row_of_a_purged_submission_is_dropped(validibot: Validibot) -> None:
    done = validibot.submission(content="", input_file="", content_purged_at=NOW - DAY)
    validibot.queued(done)
    before = validibot.row(schema.submissions, done)
    report = process()
    assert validibot.rows(schema.purge_retries) == {}
    assert validibot.row(schema.submissions, done) == before
    assert (report.done, report.skipped) == (0, 1)


@pytest.mark.parametrize(("failures", "seconds"), BACKOFF.items())
def test_a_failure_takes_the_next_step_of_the_backoff_for_ever(
    validibot: Validibot, failures: int, seconds: int
) -> None:
    failing = validibot.submission(input_file="submissions/x", **DO_NOT_STORE)
    (validibot.root / "private/submissions/x").mkdir(parents=True)
    row = validibot.queued(failing, attempt_count=failures - 1, created_at=NOW - 9 * DAY)
    report = process()
    after = validibot.row(schema.purge_retries, row)
    assert after["attempt_count"] == failures
    assert after["next_retry_at"] - after["last_attempt_at"] == timedelta(seconds=seconds)
    assert "is a directory" in after["last_error"]
    assert after["created_at"] == NOW - 9 * DAY
    assert report.failed == 1
    assert report.alerts == (1 if failures >= 5 else 0)
    assert ("ALERT" in report.summary()) == (failures >= 5)


def test_a_thousand_failing_rows_in_front_let_the_good_ones_through(validibot: Validibot) -> None:
    for number in range(60):
        (validibot.root / f"private/submissions/{number}").mkdir(parents=True)
        failing = validibot.submission(input_file=f"submissions/{number}", **DO_NOT_STORE)
        validibot.queued(failing, next_retry_at=NOW - 9 * DAY)
    gone = set()
    for _ in range(20):
        gone.add(validibot.submission(**DO_NOT_STORE))
    for identifier in gone:
        validibot.queued(identifier)
    report = process(batch_size=8)
    assert validibot.purged() == gone
    assert (report.done, report.failed) == (20, 60)
    queue = validibot.rows(schema.purge_retries).values()
    assert {row["attempt_count"] for row in queue} == {1}


@pytest.mark.parametrize("policy", ["DO_NOT_STORE", "UNKNOWN_POLICY"])
def test_content_missing_from_the_queue_is_discovered_and_purged_in_the_same_run(
    validibot: Validibot, policy: str
) -> None:
    shared = {"retention_policy": policy, "expires_at": None}
    ran = validibot.submission(created=NOW - TICK, **shared)
    validibot.run(ran, ended_at=NOW - TICK)
    old = validibot.submission(created=NOW - HOUR, **shared)
    young = validibot.submission(created=NOW - HOUR + TICK, **shared)
    busy = validibot.submission(**shared)
    validibot.run(busy)
    validibot.run(busy, status="PENDING", ended_at=None)
    report = process()
    assert validibot.purged() == {ran, old}
    assert {young, busy}.isdisjoint(validibot.purged())
    assert report.repaired == {"purges queued": 2}
    assert report.unknown_policies == ({} if policy == "DO_NOT_STORE" else {policy: 2})
    assert validibot.rows(schema.purge_retries) == {}


@pytest.mark.parametrize("policy", ["STORE_1_DAY", "STORE_PERMANENTLY"])
def test_other_policies_are_not_discovered(validibot: Validibot, policy: str) -> None:
    validibot.run(validibot.submission(retention_policy=policy))
    before = validibot.snapshot()
    assert process().selected == 0
    assert validibot.snapshot() == before


def test_a_row_that_waits_keeps_its_submission_from_being_discovered(validibot: Validibot) -> None:
    failing = validibot.submission(**DO_NOT_STORE)
    validibot.run(failing)
    century = NOW + 36_500 * DAY
    row = validibot.queued(failing, next_retry_at=century, attempt_count=4)
    before = validibot.row(schema.purge_retries, row)
    assert process().selected == 0
    assert validibot.row(schema.purge_retries, row) == before


def test_the_rows_that_are_due_longest_go_first(validibot: Validibot) -> None:
    by_age: dict[int, UUID] = {}
    for age in (3, 9, 1):
        by_age[age] = validibot.submission(**DO_NOT_STORE)
        validibot.queued(by_age[age], next_retry_at=NOW - age * DAY)
    process(batch_size=1, max_batches=2)
    assert validibot.purged() == {by_age[9], by_age[3]}
