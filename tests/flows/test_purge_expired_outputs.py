"""purge-expired-outputs does what SPEC 5.3 says, row by row."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from flows.purge_expired_outputs import purge_expired_outputs
from maintenance import schema
from maintenance.report import Report
from maintenance.settings import Settings
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, TICK, Validibot

MINUTE = timedelta(minutes=1)
FINITE = {
    "STORE_1_DAY": 1,
    "STORE_7_DAYS": 7,
    "STORE_30_DAYS": 30,
    "STORE_90_DAYS": 90,
    "STORE_1_YEAR": 365,
}


@pytest.fixture(autouse=True)
def _environment(environment: Settings) -> None:
    """Every test here runs against its own database and storage."""


def purge(**parameters: Any) -> Report:
    return run(purge_expired_outputs, **{"as_of": NOW, **parameters})


def ended_run(validibot: Validibot, **values: Any) -> UUID:
    """A run without a submission that ended eight days ago, with outputs for seven."""
    row = {
        "output_retention_policy": "STORE_7_DAYS",
        "ended_at": NOW - 8 * DAY,
        "output_expires_at": NOW - DAY,
        "error": "bad thing about alice",
        "output_hash": "c" * 64,
    }
    return validibot.run(None, **{**row, **values})


def purged(validibot: Validibot) -> set[UUID]:
    rows = validibot.rows(schema.runs).items()
    return {key for key, row in rows if row["output_purged_at"] is not None}


def test_a_deadline_equal_to_the_cutoff_is_past_and_a_later_one_is_not(
    validibot: Validibot,
) -> None:
    gone = {
        ended_run(validibot, output_expires_at=NOW - TICK),
        ended_run(validibot, output_expires_at=NOW),
    }
    ended_run(validibot, output_expires_at=NOW + TICK)
    purge()
    assert purged(validibot) == gone


@pytest.mark.parametrize("policy", ["DO_NOT_STORE", "STORE_2_DAYS"])
def test_what_must_not_be_stored_goes_a_minute_after_the_end(
    validibot: Validibot, policy: str
) -> None:
    shared = {"output_retention_policy": policy}
    gone = {
        ended_run(validibot, ended_at=NOW - MINUTE, output_expires_at=NOW - MINUTE, **shared),
        ended_run(validibot, ended_at=NOW - MINUTE, output_expires_at=NOW + DAY, **shared),
    }
    late = NOW - MINUTE + TICK
    ended_run(validibot, ended_at=late, output_expires_at=late, **shared)
    purge()
    assert purged(validibot) == gone


@pytest.mark.parametrize("status", ["PENDING", "RUNNING", "SOMETHING_NEW"])
def test_an_active_run_stays_whatever_its_deadline_says(validibot: Validibot, status: str) -> None:
    ended_run(validibot, status=status)
    ended_run(validibot, status=status, output_retention_policy="DO_NOT_STORE")
    before = validibot.snapshot()
    assert purge().selected == 0
    assert validibot.snapshot() == before


def test_permanent_and_purged_outputs_stay_as_they_are(validibot: Validibot) -> None:
    ended_run(validibot, output_retention_policy="STORE_PERMANENTLY")
    ended_run(validibot, output_purged_at=NOW - DAY)
    before = validibot.snapshot()
    assert purge().selected == 0
    assert validibot.snapshot() == before


def test_every_output_goes_and_what_is_promised_to_stay_stays(validibot: Validibot) -> None:
    run_id = ended_run(validibot, short_description="kept here")
    other = ended_run(validibot, output_expires_at=NOW + DAY)
    names = ("step", "attempt", "trace", "receipt", "continuation")
    ids: dict[str, dict[UUID, Any]] = {name: {} for name in names}
    for owner in (run_id, other):
        step_id = validibot.step_run(owner, output={"x": 1}, error="step error")
        ids["step"][owner] = step_id
        ids["attempt"][owner] = validibot.attempt(step_id, last_error="bad")
        ids["trace"][owner] = validibot.trace(step_id)
        validibot.insert(
            schema.findings, validation_run_id=owner, validation_step_run_id=step_id, message="m"
        )
        key = f"artifacts/{owner}/a.csv"
        validibot.file(key)
        validibot.insert(
            schema.artifacts, validation_run_id=owner, org_id=validibot.org_id, file=key
        )
        validibot.insert(schema.run_summaries, run_id=owner, extras={"who": "alice"}, error_count=3)
        ids["receipt"][owner] = validibot.insert(
            schema.callback_receipts,
            callback_id=str(owner),
            result_uri="file:///x",
            last_error="about alice",
            validation_run_id=owner,
            execution_attempt_id=ids["attempt"][owner],
        ).id
        ids["continuation"][owner] = validibot.continuation(owner, ids["receipt"][owner])
        for older in (False, True):
            root = "public" if older else "private"
            prefix = validibot.bundle(owner, older=older).relative_to(validibot.root / root)
            for name in ("input.json", "output.json", "attempts/x/output/r.csv"):
                validibot.file(f"{prefix}/{name}", root=root)
        validibot.file(f"evidence/{validibot.org_id}/{owner}/manifest.json")
    before = validibot.snapshot()
    report = purge()
    after = validibot.snapshot()
    row = after["validations_validationrun"][run_id]
    assert row == before["validations_validationrun"][run_id] | {
        "error": "",
        "output_hash": "",
        "output_purged_at": row["modified"],
        "output_expires_at": None,
        "modified": row["modified"],
    }
    expected: list[tuple[str, Any, dict[str, Any]]] = [
        (
            "validations_validationsteprun",
            ids["step"][run_id],
            {"output": {}, "input_values": {}, "output_values": {}, "error": ""},
        ),
        (
            "validations_executionattempt",
            ids["attempt"][run_id],
            {
                "execution_bundle_uri": "",
                "input_envelope_uri": "",
                "output_envelope_uri": "",
                "output_envelope_sha256": "",
                "last_error": "",
            },
        ),
        ("validations_resolvedinputtrace", ids["trace"][run_id], {"value_snapshot": None}),
        (
            "validations_callbackreceipt",
            ids["receipt"][run_id],
            {"result_uri": "", "last_error": ""},
        ),
        ("validations_validationruncontinuation", ids["continuation"][run_id], {"last_error": ""}),
        ("validations_validationrunsummary", run_id, {"extras": {}}),
    ]
    for table, key, changes in expected:
        assert after[table][key] == before[table][key] | changes
    for one_table in (schema.findings, schema.artifacts):
        owners = {one["validation_run_id"] for one in validibot.rows(one_table).values()}
        assert owners == {other}
    kept = {path for path in before["files"] if str(other) in path or "/evidence/" in path}
    assert after["files"] == kept
    assert report.files == len(before["files"]) - len(kept) == 7
    # Nothing of the other run has changed.
    for name, rows in before.items():
        if isinstance(rows, dict) and name != "files":
            mine = {key for key in rows if rows[key].get("validation_run_id", key) == other}
            assert {key: after[name][key] for key in mine} == {key: rows[key] for key in mine}


@pytest.mark.parametrize(("policy", "days"), FINITE.items())
def test_a_missing_deadline_is_computed_from_the_end(
    validibot: Validibot, policy: str, days: int
) -> None:
    shared = {"output_retention_policy": policy, "output_expires_at": None}
    later = ended_run(validibot, ended_at=NOW - days * DAY + TICK, **shared)
    gone = ended_run(validibot, ended_at=NOW - days * DAY, **shared)
    before = validibot.row(schema.runs, later)
    report = purge()
    assert validibot.row(schema.runs, later) == before | {"output_expires_at": NOW + TICK}
    assert purged(validibot) == {gone}
    assert report.repaired == {"output deadlines repaired": 2}


def test_a_missing_end_becomes_now_and_the_outputs_wait(
    validibot: Validibot,
) -> None:
    finite = ended_run(validibot, ended_at=None, output_expires_at=None)
    no_store = ended_run(
        validibot, ended_at=None, output_retention_policy="DO_NOT_STORE", output_expires_at=NOW
    )
    ahead = NOW + 36_500 * DAY
    started_later = ended_run(validibot, ended_at=None, output_expires_at=None, started_at=ahead)
    assert purge().done == 0
    rows = validibot.rows(schema.runs)
    assert rows[finite]["ended_at"] > NOW
    assert rows[finite]["output_expires_at"] == rows[finite]["ended_at"] + 7 * DAY
    assert rows[no_store]["output_expires_at"] == rows[no_store]["ended_at"] > NOW
    assert rows[started_later]["ended_at"] == ahead


def test_an_unknown_policy_becomes_do_not_store_where_a_deadline_is_computed(
    validibot: Validibot,
) -> None:
    odd = ended_run(validibot, output_retention_policy="STORE_2_DAYS", output_expires_at=None)
    report = purge()
    assert validibot.row(schema.runs, odd)["output_retention_policy"] == "DO_NOT_STORE"
    assert report.unknown_policies == {"STORE_2_DAYS": 1}
    assert purged(validibot) == {odd}


def test_the_deadline_of_the_submission_follows_its_run(validibot: Validibot) -> None:
    submission = validibot.submission(expires_at=None)
    validibot.run(
        submission,
        ended_at=NOW - DAY,
        output_retention_policy="STORE_7_DAYS",
        output_expires_at=None,
    )
    stored = validibot.submission(retention_policy="DO_NOT_STORE", expires_at=None)
    validibot.run(
        stored, ended_at=NOW - DAY, output_retention_policy="STORE_7_DAYS", output_expires_at=None
    )
    before = validibot.rows(schema.submissions)
    report = purge()
    after = validibot.rows(schema.submissions)
    assert after[submission] == before[submission] | {"expires_at": NOW + 6 * DAY}
    assert after[stored] == before[stored]
    (queued,) = validibot.rows(schema.purge_retries).values()
    assert queued["submission_id"] == stored
    assert report.repaired == {
        "output deadlines repaired": 2,
        "deadlines repaired": 1,
        "purges queued": 1,
    }


def test_the_oldest_deadlines_go_first_and_those_without_one_last(validibot: Validibot) -> None:
    by_age = {age: ended_run(validibot, output_expires_at=NOW - age * DAY) for age in (3, 9, 1)}
    ended_run(validibot, output_retention_policy="DO_NOT_STORE", output_expires_at=NOW + DAY)
    purge(batch_size=1, max_batches=2)
    assert purged(validibot) == {by_age[9], by_age[3]}


def test_a_failing_run_is_selected_once_and_does_not_block_others(validibot: Validibot) -> None:
    failing = ended_run(validibot, output_expires_at=NOW - 90 * DAY)
    (validibot.root / "private/runs" / str(validibot.org_id)).mkdir(parents=True)
    blocker = validibot.bundle(failing)
    blocker.write_text("a file where a directory was expected")
    gone = {ended_run(validibot) for _ in range(5)}
    before = validibot.row(schema.runs, failing)
    report = purge(batch_size=2)
    assert purged(validibot) == gone
    assert (report.selected, report.done, report.failed) == (6, 5, 1)
    assert report.failures[0].item == f"run {failing}"
    assert validibot.row(schema.runs, failing) == before
    again = purge()
    assert (again.selected, again.failed) == (1, 1)
    blocker.unlink()
    assert purge().done == 1


def test_a_run_that_the_application_has_locked_is_left_for_the_next_run(
    validibot: Validibot, database: Engine
) -> None:
    locked, *others = (ended_run(validibot) for _ in range(5))
    with database.begin() as application:
        query = "SELECT 1 FROM validations_validationrun WHERE id = :id FOR UPDATE"
        application.execute(text(query), {"id": locked})
        report = purge(batch_size=2)
    assert purged(validibot) == set(others)
    assert report.overdue is not None
    assert report.overdue.rows == 1
    purge()
    assert purged(validibot) == {locked, *others}
