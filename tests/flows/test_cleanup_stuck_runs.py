"""cleanup-stuck-runs: what it changes on runs that hang, and on nothing else (SPEC 6.2)."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.cleanup_stuck_runs import DEFAULT_MINUTES, cleanup_stuck_runs
from maintenance import schema
from maintenance.report import Report
from maintenance.schema.vocabulary import ACTIVE_ATTEMPT_STATES, AttemptState
from maintenance.settings import Settings
from tests.support.runs import run
from tests.support.stuck import CUTOFF, MINUTE, TIMEOUT, Hanging
from tests.support.validibot import DAY, NOW, TICK, Validibot

MESSAGE = (
    "Run timed out after {} minutes - no callback received from validator. This may indicate the"
    " validator crashed or the callback failed to reach the server."
)


@pytest.fixture
def hanging(environment: Settings, validibot: Validibot) -> Hanging:
    return Hanging(validibot)


def clean(**parameters: Any) -> Report:
    return run(cleanup_stuck_runs, **{"as_of": NOW, **parameters})


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The columns that hold something else now, with what they hold."""
    return {name: value for name, value in after.items() if before[name] != value}


def test_a_run_that_hangs_becomes_what_validibot_makes_of_it(hanging: Hanging) -> None:
    run_id = hanging.run(started_at=NOW - DAY, duration_ms=0)
    step = hanging.step(run_id)
    attempt = hanging.attempt(step)
    app = hanging.validibot
    before = app.snapshot()
    began = datetime.now(UTC)
    report = clean()
    row = app.row(schema.runs, run_id)
    new = changed(before["validations_validationrun"][run_id], row)
    assert new.keys() == {
        *("status", "error_category", "error", "ended_at", "duration_ms", "modified"),
        *("output_hash", "definition_released_at"),
    }
    assert (new["status"], new["error_category"]) == ("TIMED_OUT", "TIMEOUT")
    assert new["error"] == MESSAGE.format(30)
    assert began < new["ended_at"] == new["modified"] < datetime.now(UTC)
    lasted = new["ended_at"] - row["started_at"]
    assert new["duration_ms"] == lasted // timedelta(milliseconds=1) > 86_400_000
    tried = changed(
        before["validations_executionattempt"][attempt], app.row(schema.attempts, attempt)
    )
    assert tried == {
        "state": "TIMED_OUT",
        "terminal_at": tried["modified"],
        "last_error_code": "run_timed_out",
        "last_error": MESSAGE.format(30),
        "modified": tried["modified"],
    }
    assert began < tried["modified"] < datetime.now(UTC)
    after = app.snapshot()
    touched = {name for name in before if before[name] != after[name]}
    assert touched == {
        *("validations_validationrun", "validations_executionattempt"),
        *("validations_runevidenceartifact", "files"),
    }
    assert (report.selected, report.done, report.failed) == (1, 1, 0)
    assert report.cutoff == CUTOFF


def test_the_evidence_is_there_when_the_run_of_the_job_is_over(hanging: Hanging) -> None:
    run_id = hanging.run()
    hanging.tried(run_id)
    clean()
    (row,) = hanging.validibot.rows(schema.evidence).values()
    assert (row["run_id"], row["availability"]) == (run_id, "GENERATED")
    key = f"evidence/{hanging.validibot.org_id}/{run_id}/manifest.json"
    assert row["manifest_path"] == key
    manifest = json.loads((hanging.validibot.root / "private" / key).read_bytes())
    assert (manifest["run_id"], manifest["status"]) == (str(run_id), "TIMED_OUT")


@pytest.mark.parametrize("state", ACTIVE_ATTEMPT_STATES)
def test_an_attempt_that_was_never_dispatched_fails_and_the_others_time_out(
    state: AttemptState, hanging: Hanging
) -> None:
    attempt = hanging.tried(hanging.run(), state=state)
    assert clean().done == 1
    row = hanging.validibot.row(schema.attempts, attempt)
    expected = "FAILED" if state is AttemptState.PENDING else "TIMED_OUT"
    assert (row["state"], row["last_error_code"]) == (expected, "run_timed_out")
    assert row["last_error"] == MESSAGE.format(30)


def test_a_run_without_steps_or_attempts_ends_all_the_same(hanging: Hanging) -> None:
    bare, stepped, tried = hanging.run(), hanging.run(), hanging.run()
    hanging.step(stepped)
    ended = hanging.tried(tried, state="COMPLETED")
    before = hanging.validibot.row(schema.attempts, ended)
    report = clean()
    assert (report.done, report.rows_by_table["validations_executionattempt"]) == (3, 0)
    rows = hanging.validibot.rows(schema.runs)
    assert {rows[one]["status"] for one in (bare, stepped, tried)} == {"TIMED_OUT"}
    assert hanging.validibot.row(schema.attempts, ended) == before


def test_the_first_step_that_is_not_done_loses_its_newest_active_attempt(hanging: Hanging) -> None:
    run_id = hanging.run()
    done = hanging.attempt(hanging.step(run_id, 1, status="PASSED"))
    pending = hanging.step(run_id, 2, status="PENDING", step_order=15)
    earlier = hanging.attempt(pending, state="FAILED")
    current = hanging.attempt(pending, attempt_number=2)
    later = hanging.attempt(hanging.step(run_id, 3, step_order=16))
    clean()
    rows = hanging.validibot.rows(schema.attempts)
    states = [rows[one]["state"] for one in (done, earlier, current, later)]
    assert states == ["RUNNING", "FAILED", "TIMED_OUT", "RUNNING"]


def test_steps_keep_their_status(hanging: Hanging) -> None:
    hanging.tried(hanging.run())
    before = hanging.validibot.rows(schema.step_runs)
    clean()
    assert hanging.validibot.rows(schema.step_runs) == before


def test_a_moment_that_was_written_down_stays(hanging: Hanging) -> None:
    attempt = hanging.tried(hanging.run(), terminal_at=NOW - DAY)
    clean()
    assert hanging.validibot.row(schema.attempts, attempt)["terminal_at"] == NOW - DAY


@pytest.mark.parametrize(
    ("allowed", "minutes"),
    [
        (timedelta(minutes=60), 60),
        (timedelta(minutes=60) + TICK, 61),
        (timedelta(minutes=60) - TICK, 60),
        (TICK, 1),
        (timedelta(0), 0),
        (-DAY, 0),
        (timedelta(days=30), 43_200),
    ],
)
def test_a_deadline_of_its_own_says_how_many_minutes_a_run_had(
    hanging: Hanging, allowed: timedelta, minutes: int
) -> None:
    run_id = hanging.run(started_at=NOW - DAY)
    attempt = hanging.tried(run_id, created=NOW - DAY - allowed, timeout_at=NOW - DAY)
    clean(timeout_minutes=7)
    assert hanging.validibot.row(schema.runs, run_id)["error"] == MESSAGE.format(minutes)
    assert hanging.validibot.row(schema.attempts, attempt)["last_error"] == MESSAGE.format(minutes)


def test_of_several_deadlines_the_one_that_passed_first_says_it(hanging: Hanging) -> None:
    run_id = hanging.run()
    for number, minutes in ((1, 5), (2, 9), (3, -5)):
        deadline = NOW - minutes * MINUTE
        hanging.attempt(
            hanging.step(run_id, number),
            created=deadline - 10 * number * MINUTE,
            timeout_at=deadline,
        )
    clean()
    assert hanging.validibot.row(schema.runs, run_id)["error"] == MESSAGE.format(20)


def test_without_a_deadline_the_option_says_it(hanging: Hanging) -> None:
    assert timedelta(minutes=DEFAULT_MINUTES) == TIMEOUT
    run_id = hanging.run(started_at=NOW - 7 * MINUTE - TICK)
    hanging.tried(run_id)
    assert clean(timeout_minutes=8).selected == 0
    assert clean(timeout_minutes=7).done == 1
    assert hanging.validibot.row(schema.runs, run_id)["error"] == MESSAGE.format(7)


def test_a_run_never_ends_before_it_started(hanging: Hanging) -> None:
    ahead = datetime.now(UTC) + DAY
    run_id = hanging.run(started_at=ahead, duration_ms=5)
    hanging.tried(run_id, timeout_at=NOW)
    assert clean().done == 1
    row = hanging.validibot.row(schema.runs, run_id)
    assert (row["ended_at"], row["duration_ms"]) == (ahead, 0)
    assert row["modified"] < ahead


def test_without_a_start_there_is_no_duration(hanging: Hanging) -> None:
    run_id = hanging.run(started_at=None, duration_ms=5)
    hanging.tried(run_id, timeout_at=NOW)
    assert clean().done == 1
    row = hanging.validibot.row(schema.runs, run_id)
    assert (row["started_at"], row["duration_ms"]) == (None, 5)
    assert row["ended_at"] == row["modified"]


def test_an_earlier_end_is_overwritten(hanging: Hanging) -> None:
    run_id = hanging.run(ended_at=NOW - DAY, started_at=NOW - 2 * DAY)
    clean()
    row = hanging.validibot.row(schema.runs, run_id)
    assert row["ended_at"] == row["modified"] > NOW


@pytest.mark.parametrize("policy", ["DO_NOT_STORE", "STORE_7_DAYS", "STORE_PERMANENTLY"])
def test_the_submission_gets_its_deadline_or_is_queued(hanging: Hanging, policy: str) -> None:
    app = hanging.validibot
    submission = app.submission(retention_policy=policy, expires_at=None)
    run_id = hanging.run(submission, output_retention_policy="STORE_30_DAYS")
    report = clean()
    ended_at = app.row(schema.runs, run_id)["ended_at"]
    assert app.row(schema.runs, run_id)["output_expires_at"] == ended_at + 30 * DAY
    expires = ended_at + 7 * DAY if policy == "STORE_7_DAYS" else None
    assert app.row(schema.submissions, submission)["expires_at"] == expires
    queued = {row["submission_id"] for row in app.rows(schema.purge_retries).values()}
    assert queued == ({submission} if policy == "DO_NOT_STORE" else set())
    assert report.repaired == ({"purges queued": 1} if queued else {})
