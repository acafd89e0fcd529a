"""purge-expired-submissions does what SPEC 5.1 and 5.2 say, row by row."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from flows.purge_expired_submissions import purge_expired_submissions
from maintenance import schema
from maintenance.report import Report
from maintenance.settings import Settings, settings
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, TICK, Validibot

TERMINAL = ("SUCCEEDED", "FAILED", "CANCELED", "TIMED_OUT")


@pytest.fixture(autouse=True)
def _environment(environment: Settings) -> None:
    """Every test here runs against its own database and storage."""


def purge(**parameters: Any) -> Report:
    return run(purge_expired_submissions, **{"as_of": NOW, **parameters})


def expiring_at(validibot: Validibot, deadline: Any, **values: Any) -> UUID:
    """A submission whose deadline is right: its creation plus the seven days of its policy."""
    return validibot.submission(created=deadline - 7 * DAY, expires_at=deadline, **values)


def test_a_deadline_equal_to_the_cutoff_is_past_and_a_later_one_is_not(
    validibot: Validibot,
) -> None:
    gone = {expiring_at(validibot, NOW - TICK), expiring_at(validibot, NOW)}
    expiring_at(validibot, NOW + TICK)
    assert purge().done == 2
    assert validibot.purged() == gone


@pytest.mark.parametrize("status", ["PENDING", "RUNNING", "SOMETHING_NEW"])
def test_a_submission_with_an_active_run_stays_whatever_its_other_runs_are(
    validibot: Validibot, status: str
) -> None:
    kept = validibot.submission()
    validibot.run(kept)
    validibot.run(kept, status=status, ended_at=None)
    before = validibot.row(schema.submissions, kept)
    assert purge().selected == 0
    assert validibot.row(schema.submissions, kept) == before


@pytest.mark.parametrize("status", TERMINAL)
def test_a_submission_whose_runs_have_all_ended_is_purged(
    validibot: Validibot, status: str
) -> None:
    gone = validibot.submission()
    validibot.run(gone, status=status)
    purge()
    assert validibot.purged() == {gone}


def test_permanent_do_not_store_purged_and_undated_rows_are_told_apart(
    validibot: Validibot,
) -> None:
    validibot.submission(retention_policy="STORE_PERMANENTLY", expires_at=None)
    validibot.submission(retention_policy="DO_NOT_STORE", expires_at=None)
    stamped = validibot.submission(
        content="", input_file="", content_purged_at=NOW - DAY, expires_at=NOW - DAY
    )
    before = validibot.snapshot()
    assert purge().selected == 0
    assert validibot.snapshot() == before
    assert validibot.purged() == {stamped}


def test_the_content_goes_and_what_is_promised_to_stay_stays(validibot: Validibot) -> None:
    key = "submissions/2026/11/report.json"
    validibot.file(key)
    gone = validibot.submission(input_file=key)
    before = validibot.row(schema.submissions, gone)
    purge()
    after = validibot.row(schema.submissions, gone)
    changed = {name: after[name] for name in after if after[name] != before[name]}
    stamp = changed.pop("content_purged_at")
    assert changed.pop("modified") == stamp
    assert stamp > before["modified"]
    assert changed == {
        "name": "",
        "input_file": "",
        "original_filename": "",
        "metadata": {},
        "expires_at": None,
    }
    assert validibot.files() == set()


def test_inline_content_is_cleared_and_a_null_file_becomes_blank(validibot: Validibot) -> None:
    gone = validibot.submission(content="my secret", input_file=None)
    purge()
    row = validibot.row(schema.submissions, gone)
    assert (row["content"], row["input_file"]) == ("", "")


def test_the_input_values_of_its_runs_are_redacted_and_their_outputs_kept(
    validibot: Validibot,
) -> None:
    gone = validibot.submission()
    run_id = validibot.run(gone)
    step_id = validibot.step_run(run_id)
    attempt_id = validibot.attempt(step_id)
    trace_id = validibot.trace(step_id)
    tables = (schema.runs, schema.step_runs, schema.attempts, schema.input_traces)
    before = {table.name: validibot.rows(table) for table in tables}
    purge()
    expected: list[tuple[Any, Any, dict[str, Any]]] = [
        (schema.runs, run_id, {"short_description": ""}),
        (schema.step_runs, step_id, {"input_values": {}}),
        (
            schema.attempts,
            attempt_id,
            {
                "execution_bundle_uri": "",
                "input_envelope_uri": "",
                "input_envelope_sha256": "",
                "input_evidence_snapshot": {},
            },
        ),
        (schema.input_traces, trace_id, {"value_snapshot": None}),
    ]
    for table, key, changes in expected:
        assert validibot.row(table, key) == before[table.name][key] | changes


def test_input_traces_stay_when_the_operator_says_so(
    validibot: Validibot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINTENANCE_REDACT_INPUT_TRACES", "false")
    settings.cache_clear()
    step_id = validibot.step_run(validibot.run(validibot.submission()))
    trace_id = validibot.trace(step_id)
    assert purge().done == 1
    assert validibot.row(schema.input_traces, trace_id)["value_snapshot"] == {"area": 12.5}


def test_port_files_go_once_and_those_purged_before_are_left_alone(validibot: Validibot) -> None:
    gone = validibot.submission()
    validibot.file("ports/a/weather.epw")
    fresh = validibot.port_file(gone, input_file="ports/a/weather.epw")
    empty = validibot.port_file(gone, input_file=None)
    old = validibot.port_file(gone, input_file="", file_purged_at=NOW - DAY)
    others = validibot.port_file(validibot.submission(expires_at=NOW + DAY, created=NOW - 6 * DAY))
    before = validibot.rows(schema.input_files)
    purge()
    after = validibot.rows(schema.input_files)
    for key in (fresh, empty):
        row = after[key]
        assert row["file_purged_at"] == row["modified"] > before[key]["modified"]
        assert (row["input_file"], row["original_filename"], row["content_type"]) == ("", "", "")
        assert row["metadata"] == {}
        assert row["port_key"] == before[key]["port_key"]
    assert {key: after[key] for key in (old, others)} == {key: before[key] for key in (old, others)}
    assert validibot.files() == set()


def test_copied_inputs_go_in_both_layouts_and_outputs_and_evidence_stay(
    validibot: Validibot,
) -> None:
    gone = validibot.submission()
    run_id = validibot.run(gone)
    attempt_id = validibot.attempt(validibot.step_run(run_id))
    keep: set[str] = set()
    remove: set[str] = set()
    for older in (False, True):
        bundle = validibot.bundle(run_id, older=older)
        root = "public" if older else "private"
        prefix = str(bundle.relative_to(validibot.root / root))
        for name, stays in {
            "input.json": False,
            "output.json": True,
            "output.json.bak": False,
            "outputs/report.html": True,
            "outputs2/report.html": False,
            f"attempts/{attempt_id}/input/model.idf": False,
            f"attempts/{attempt_id}/output/result.csv": True,
            f"attempts/{attempt_id}/output.json": True,
            "attempts/0000/output/result.csv": False,
        }.items():
            validibot.file(f"{prefix}/{name}", root=root)
            (keep if stays else remove).add(f"{root}/{prefix}/{name}")
    validibot.file(f"evidence/{validibot.org_id}/{run_id}/manifest.json")
    keep.add(f"private/evidence/{validibot.org_id}/{run_id}/manifest.json")
    report = purge()
    assert validibot.files() == keep
    assert report.files == len(remove)
    assert report.bytes == len("secret") * len(remove)


def test_the_files_of_other_submissions_stay(validibot: Validibot) -> None:
    gone, kept = validibot.submission(), expiring_at(validibot, NOW + TICK)
    runs = {identifier: validibot.run(identifier) for identifier in (gone, kept)}
    for run_id in runs.values():
        validibot.file(f"runs/{validibot.org_id}/{run_id}/input.json")
    purge()
    assert validibot.files() == {f"private/runs/{validibot.org_id}/{runs[kept]}/input.json"}


def test_its_row_in_the_purge_queue_goes_with_it(validibot: Validibot) -> None:
    gone, kept = validibot.submission(), expiring_at(validibot, NOW + TICK)
    validibot.queued(gone, next_retry_at=NOW + DAY)
    other = validibot.queued(kept)
    purge()
    assert set(validibot.rows(schema.purge_retries)) == {other}


@pytest.mark.parametrize(
    ("policy", "days"), [("STORE_1_DAY", 1), ("STORE_7_DAYS", 7), ("STORE_30_DAYS", 30)]
)
def test_a_deadline_is_recomputed_from_the_latest_end_of_its_runs(
    validibot: Validibot, policy: str, days: int
) -> None:
    ended = NOW - timedelta(hours=1)
    later = validibot.submission(retention_policy=policy, created=NOW - 90 * DAY)
    validibot.run(later, ended_at=NOW - 50 * DAY)
    validibot.run(later, ended_at=ended)
    before = validibot.row(schema.submissions, later)
    report = purge()
    after = validibot.row(schema.submissions, later)
    assert after == before | {"expires_at": ended + days * DAY}
    assert report.repaired == {"deadlines repaired": 1}


def test_a_deadline_without_a_run_that_ended_counts_from_its_creation(
    validibot: Validibot,
) -> None:
    created = NOW - 7 * DAY + TICK
    later = validibot.submission(created=created, expires_at=NOW - DAY)
    purge()
    assert validibot.row(schema.submissions, later)["expires_at"] == created + 7 * DAY


def test_a_stale_deadline_of_permanent_content_is_cleared_and_the_content_stays(
    validibot: Validibot,
) -> None:
    kept = validibot.submission(retention_policy="STORE_PERMANENTLY")
    before = validibot.row(schema.submissions, kept)
    purge()
    assert validibot.row(schema.submissions, kept) == before | {"expires_at": None}


@pytest.mark.parametrize("policy", ["DO_NOT_STORE", "STORE_2_DAYS", ""])
def test_what_must_not_be_stored_is_queued_and_an_unknown_policy_fails_closed(
    validibot: Validibot, policy: str
) -> None:
    queued = validibot.submission(retention_policy=policy)
    before = validibot.row(schema.submissions, queued)
    report = purge()
    changes = {"expires_at": None, "retention_policy": "DO_NOT_STORE"}
    assert validibot.row(schema.submissions, queued) == before | changes
    (row,) = validibot.rows(schema.purge_retries).values()
    assert (row["submission_id"], row["attempt_count"], row["last_error"]) == (queued, 0, "")
    assert row["last_attempt_at"] is None
    assert row["created_at"] == row["next_retry_at"]
    unknown = {} if policy == "DO_NOT_STORE" else {policy: 1}
    assert report.unknown_policies == unknown
    assert report.repaired == {"deadlines repaired": 1, "purges queued": 1}


def test_queueing_pulls_a_later_row_forward_and_leaves_a_due_one(validibot: Validibot) -> None:
    far, due = (validibot.submission(retention_policy="DO_NOT_STORE") for _ in range(2))
    in_a_century = NOW + 36_500 * DAY
    later = validibot.queued(far, next_retry_at=in_a_century, attempt_count=3, last_error="no")
    waiting = validibot.queued(due, next_retry_at=NOW - DAY, attempt_count=2)
    before = validibot.rows(schema.purge_retries)
    report = purge()
    after = validibot.rows(schema.purge_retries)
    assert after[waiting] == before[waiting]
    assert after[later]["next_retry_at"] < in_a_century
    assert after[later] == before[later] | {"next_retry_at": after[later]["next_retry_at"]}
    assert report.repaired["purges queued"] == 1


def test_a_finite_policy_without_a_deadline_is_found_and_treated_by_its_age(
    validibot: Validibot,
) -> None:
    due = validibot.submission(expires_at=None, created=NOW - 8 * DAY)
    later = validibot.submission(expires_at=None, created=NOW - 6 * DAY)
    running = validibot.submission(expires_at=None, created=NOW - 8 * DAY)
    validibot.run(running, status="RUNNING", ended_at=None)
    purge()
    assert validibot.purged() == {due}
    rows = validibot.rows(schema.submissions)
    assert rows[later]["expires_at"] == NOW + DAY
    assert rows[running]["expires_at"] is None


def test_the_oldest_deadlines_go_first(validibot: Validibot) -> None:
    ages = (3, 9, 1, 7, 5)
    by_age = {age: expiring_at(validibot, NOW - age * DAY) for age in ages}
    report = purge(batch_size=1, max_batches=3)
    assert report.stopped_because == "max_batches"
    assert validibot.purged() == {by_age[9], by_age[7], by_age[5]}
