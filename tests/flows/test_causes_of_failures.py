"""Everything that fails names its cause and place, and what to do (SPEC 10.15)."""

from datetime import timedelta
from typing import Any

import pytest

from flows.cleanup_stuck_runs import cleanup_stuck_runs
from flows.process_purge_retries import process_purge_retries
from flows.purge_expired_outputs import purge_expired_outputs
from flows.purge_expired_submissions import purge_expired_submissions
from maintenance import schema
from maintenance.report_markdown import to_markdown
from tests.flows.test_poison_rows import due_output, stuck
from tests.support.runs import run
from tests.support.validibot import NOW, Validibot

pytestmark = pytest.mark.usefixtures("environment")

DIRECTORY = "is a directory where a file was expected"
AGAIN = "correct the cause; the next run of the job tries it again"


def test_10_15_a_file_is_named_by_root_and_whole_key_and_attempts_are_counted(
    validibot: Validibot, caplog: pytest.LogCaptureFixture
) -> None:
    key = "submissions/2026/blocked"
    (validibot.root / "private" / key).mkdir(parents=True)
    bad = validibot.submission(input_file=key)
    cause = f"storage root {validibot.root}/private: {key}: {DIRECTORY}"
    report = run(purge_expired_submissions, as_of=NOW)
    for _ in range(2):
        report = run(purge_expired_submissions, as_of=NOW, retry_failed=True)
        assert {(one.item, one.cause) for one in report.failures} == {(f"submission {bad}", cause)}
    (record,) = validibot.rows(schema.purge_retries).values()
    assert record["last_error"] == cause
    assert record["attempt_count"] >= 3
    last = report.failures[-1]
    assert last.retry is not None
    assert (last.retry.attempts, last.retry.due) == (
        record["attempt_count"],
        record["next_retry_at"],
    )
    due = f"{record['next_retry_at']:%Y-%m-%d %H:%M:%S} UTC"
    said = f"tried {record['attempt_count']} times so far, the next attempt is after {due}"
    assert last.action == f"correct the cause; {said}"
    assert said in to_markdown(report)
    assert f"submission {bad} failed: {cause}; correct the cause; tried" in caplog.text
    assert report.model_dump(mode="json")["failures"][-1]["action"] == last.action


def test_10_15_the_queue_counts_its_attempts_too(validibot: Validibot) -> None:
    key = "ports/blocked"
    (validibot.root / "private" / key).mkdir(parents=True)
    bad = validibot.submission(retention_policy="DO_NOT_STORE", expires_at=None)
    validibot.port_file(bad, input_file=key)
    validibot.queued(bad, next_retry_at=NOW - timedelta(days=1), attempt_count=3)
    (failure,) = run(process_purge_retries, as_of=NOW).failures
    assert failure.cause == f"storage root {validibot.root}/private: {key}: {DIRECTORY}"
    assert failure.retry is not None
    assert failure.retry.attempts == 4


@pytest.mark.parametrize("older", [False, True], ids=["current", "older"])
def test_10_15_a_run_bundle_is_named_with_its_root(validibot: Validibot, older: bool) -> None:
    bad = due_output(validibot)
    bundle = validibot.bundle(bad, older=older)
    bundle.parent.mkdir(parents=True)
    bundle.write_text("no bundle")
    root = validibot.root / ("public" if older else "private")
    (failure,) = run(purge_expired_outputs, as_of=NOW).failures
    assert failure.item == f"run {bad}"
    place = f"storage root {root}: {bundle.relative_to(root)}"
    assert failure.cause == f"{place}: is a file where a directory was expected"
    assert (failure.retry, failure.action) == (None, AGAIN)


def test_10_15_evidence_that_cannot_be_stored_is_named_with_its_root(validibot: Validibot) -> None:
    bad = stuck(validibot)
    blocked = validibot.root / "private" / "evidence"
    blocked.write_text("no directory")
    report: Any = run(cleanup_stuck_runs, as_of=NOW)
    (failure,) = report.failures
    assert failure.item == f"run {bad}"
    assert failure.cause.startswith(f"storage root {validibot.root}/private: evidence/")
    assert str(bad) in failure.cause
    assert failure.action == AGAIN
