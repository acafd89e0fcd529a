"""A row that is refused after its files have been deleted: what is said and done (SPEC 10.7)."""

import pytest
from sqlalchemy import Engine, text

from flows.process_purge_retries import process_purge_retries
from flows.purge_expired_outputs import purge_expired_outputs
from flows.purge_expired_submissions import purge_expired_submissions
from maintenance import schema
from tests.flows.test_poison_rows import due_output, queued
from tests.support.poison import poison
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

pytestmark = pytest.mark.usefixtures("environment")

SUBMISSIONS, RUNS = schema.submissions.name, schema.runs.name
GONE = (
    "RaiseException: not this one; its files are gone already; the row is not stamped, and a"
    " later run completes it once the database accepts the row"
)


def permit(engine: Engine, table: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"DROP TRIGGER poison ON {table}"))


@pytest.mark.parametrize("rows", [1, 5], ids=["alone", "in a batch"])
def test_10_7_the_failure_says_that_the_files_are_gone_and_a_later_run_stamps(
    validibot: Validibot, database: Engine, rows: int
) -> None:
    keys = [validibot.submission(input_file=f"submissions/{n}.json") for n in range(rows)]
    for number in range(rows):
        validibot.file(f"submissions/{number}.json")
    bad = keys[rows // 2]
    poison(database, SUBMISSIONS, bad, at_commit=True)
    report = run(purge_expired_submissions, as_of=NOW)
    assert [failure.cause for failure in report.failures] == [GONE]
    assert validibot.files() == set()
    row = validibot.row(schema.submissions, bad)
    assert (row["content_purged_at"], bool(row["input_file"])) == (None, True)
    (record,) = validibot.rows(schema.purge_retries).values()
    assert (record["submission_id"], record["last_error"]) == (bad, GONE)
    permit(database, SUBMISSIONS)
    again = run(purge_expired_submissions, as_of=NOW, retry_failed=True)
    assert (again.done, again.failed) == (1, 0)
    assert bad in validibot.purged()
    assert validibot.rows(schema.purge_retries) == {}


def test_10_7_the_same_in_the_queue(validibot: Validibot, database: Engine) -> None:
    bad = queued(validibot)
    validibot.file("ports/a.json")
    validibot.port_file(bad, input_file="ports/a.json")
    poison(database, SUBMISSIONS, bad, at_commit=True)
    assert run(process_purge_retries, as_of=NOW).failures[0].cause == GONE
    assert validibot.files() == set()
    permit(database, SUBMISSIONS)
    assert run(process_purge_retries, as_of=NOW + DAY * 30, dry_run=True).selected == 1


@pytest.mark.parametrize("at_commit", [True, False], ids=["at commit", "at once"])
def test_10_7_the_same_for_outputs_whose_files_go_first(
    validibot: Validibot, database: Engine, at_commit: bool
) -> None:
    bad = due_output(validibot)
    bundle = validibot.bundle(bad)
    bundle.mkdir(parents=True)
    (bundle / "output.json").write_text("secret")
    poison(database, RUNS, bad, at_commit=at_commit)
    report = run(purge_expired_outputs, as_of=NOW)
    assert [failure.cause for failure in report.failures] == [GONE]
    assert not bundle.exists()
    assert validibot.row(schema.runs, bad)["output_purged_at"] is None
    permit(database, RUNS)
    assert run(purge_expired_outputs, as_of=NOW).done == 1
    assert validibot.row(schema.runs, bad)["output_purged_at"] is not None


def test_10_3_a_submission_that_keeps_its_own_file_says_so(
    validibot: Validibot, database: Engine
) -> None:
    validibot.file("submissions/bad.json")
    bad = validibot.submission(input_file="submissions/bad.json")
    validibot.run(bad)
    poison(database, SUBMISSIONS, bad)
    (failure,) = run(purge_expired_submissions, as_of=NOW).failures
    assert "its own file is kept; the row is not stamped" in failure.cause


def test_10_7_a_submission_without_files_says_nothing_of_them(
    validibot: Validibot, database: Engine
) -> None:
    poison(database, SUBMISSIONS, validibot.submission(), at_commit=True)
    (failure,) = run(purge_expired_submissions, as_of=NOW).failures
    assert failure.cause == "RaiseException: not this one"
