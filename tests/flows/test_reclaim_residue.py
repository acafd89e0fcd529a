"""reclaim-residue: what goes, what stays, and what a dry run says (SPEC 10.12)."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, event, text

from flows.reclaim_residue import reclaim_residue
from maintenance import schema
from maintenance import settings as settings_module
from maintenance.settings import Settings
from maintenance.storage.local import LocalStore
from tasks.residue import deletion, stamped_rows
from tests.support.residue import WEEK, Residue, leave_residue, touch
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, TICK, Validibot


@pytest.fixture(autouse=True)
def _environment(environment: Settings) -> None:
    """Every test here runs against its own database and storage."""


def test_10_12_residue_of_every_kind_goes_and_everything_else_stays(validibot: Validibot) -> None:
    residue = leave_residue(validibot)
    report = run(reclaim_residue, as_of=NOW)
    assert report.failures == []
    assert validibot.files() == residue.kept
    found = {kind: one.model_dump() for kind, one in report.reclaimed.items()}
    assert {kind: (one["items"], one["files"]) for kind, one in found.items()} == {
        "bundles of purged runs": (3, 8),
        "copied inputs of purged submissions": (1, 4),
        "bundles without a run row": (2, 3),
        "rows of purged runs": (4, 1),
        "rows of purged submissions": (3, 2),
    }
    assert report.files == len(residue.gone)
    assert (report.selected, report.done) == (13, 13)
    assert len(report.warnings) == 1
    assert "belongs to a run of organization" in report.warnings[0]


def test_10_12_readable_traces_and_rows_of_stamped_rows_are_cleared(validibot: Validibot) -> None:
    leave_residue(validibot)
    run(reclaim_residue, as_of=NOW)
    runs = validibot.rows(schema.runs)
    submissions = validibot.rows(schema.submissions)
    steps = validibot.rows(schema.step_runs)

    def cleared(row: dict[str, Any]) -> bool:
        submission = submissions.get(row["submission_id"])
        by_submission = submission is not None and submission["content_purged_at"] is not None
        busy = any(
            other["submission_id"] == row["submission_id"] and other["status"] == "RUNNING"
            for other in runs.values()
            if by_submission
        )
        purged = row["output_purged_at"]
        mine = purged is not None and purged <= NOW and row["status"] != "RUNNING"
        return mine or (by_submission and not busy)

    readable = {
        steps[row["step_run_id"]]["validation_run_id"]
        for row in validibot.rows(schema.input_traces).values()
        if row["value_snapshot"] is not None
    }
    assert len(readable) == 3
    assert not any(cleared(runs[key]) for key in readable)
    assert validibot.rows(schema.findings) == {}
    assert validibot.rows(schema.artifacts) == {}
    for step in steps.values():
        row = runs[step["validation_run_id"]]
        if cleared(row):
            assert (step["input_values"], step["output"]) == ({}, {})
            assert (row["error"], row["output_hash"], row["short_description"]) == ("", "", "") or (
                row["submission_id"] is None
            )
    ports = validibot.rows(schema.input_files).values()
    assert {row["input_file"] for row in ports} == {""}
    assert all(row["file_purged_at"] for row in ports)


def test_10_12_it_is_a_dry_run_unless_it_is_told_not_to_be(validibot: Validibot) -> None:
    leave_residue(validibot)
    before = validibot.snapshot()
    forecast = run(
        reclaim_residue,
        as_of=NOW,
        dry_run=reclaim_residue.parameters.properties["dry_run"]["default"],
    )
    assert forecast.dry_run
    assert validibot.snapshot() == before
    real = run(reclaim_residue, as_of=NOW, dry_run=False)
    assert forecast.reclaimed == real.reclaimed
    assert forecast.fingerprint == real.fingerprint


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_10_12_the_batch_size_and_the_length_of_a_pass_do_not_matter(
    validibot: Validibot, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamped_rows, "PASS_ROWS", 3)
    residue = leave_residue(validibot)
    report = run(reclaim_residue, as_of=NOW, batch_size=batch_size)
    assert (report.done, report.failed) == (13, 0)
    assert validibot.files() == residue.kept
    assert run(reclaim_residue, as_of=NOW, batch_size=batch_size).selected == 0


def test_10_12_a_bundle_without_a_row_goes_when_its_newest_file_is_older_than_a_week(
    validibot: Validibot,
) -> None:
    ages = {WEEK + TICK: True, WEEK: False, WEEK - TICK: False}
    expected = {}
    for age, goes in ages.items():
        residue = Residue(validibot)
        run_id = uuid4()
        residue.files(run_id, "a", "attempts/x/b")
        touch(validibot.bundle(run_id) / "attempts/x/b", NOW - age)
        expected[run_id] = goes
    run(reclaim_residue, as_of=NOW)
    assert {one: not validibot.bundle(one).exists() for one in expected} == expected


def test_10_12_a_run_that_gets_its_row_right_before_the_deletion_keeps_its_bundle(
    validibot: Validibot, monkeypatch: pytest.MonkeyPatch
) -> None:
    residue = Residue(validibot)
    appearing, other = uuid4(), uuid4()
    for run_id in (appearing, other):
        residue.files(run_id, "input.json")
    real = LocalStore.remove_trees

    def remove(*arguments: Any) -> Any:
        if not validibot.rows(schema.runs):
            validibot.run(None, id=appearing)
        return real(*arguments)

    monkeypatch.setattr(LocalStore, "remove_trees", remove)
    report = run(reclaim_residue, as_of=NOW)
    assert validibot.bundle(appearing).exists()
    assert not validibot.bundle(other).exists()
    assert (report.selected, report.done, report.deferred) == (2, 1, 1)


def test_10_12_a_submission_or_run_that_something_else_locks_is_deferred(
    validibot: Validibot, database: Engine
) -> None:
    residue = Residue(validibot)
    run_id = residue.run()
    residue.step(run_id)
    residue.files(run_id, "input.json")
    submission = residue.submission()
    copied = validibot.run(submission, short_description="")
    residue.step(copied)
    residue.files(copied, "input.json")
    before = validibot.snapshot()
    with database.begin() as connection:
        for table in ("validations_validationrun", "submissions_submission"):
            connection.execute(text(f"SELECT 1 FROM {table} FOR UPDATE"))
        report = run(reclaim_residue, as_of=NOW)
    assert (report.selected, report.deferred, report.done, report.failed) == (4, 4, 0, 0)
    assert validibot.snapshot() == before
    assert run(reclaim_residue, as_of=NOW).done == 4


def test_10_12_a_run_that_is_started_after_the_search_keeps_the_inputs(
    validibot: Validibot, database: Engine
) -> None:
    residue = Residue(validibot)
    submission = residue.submission()
    run_id = validibot.run(submission, short_description="")
    residue.step(run_id)
    residue.files(run_id, "input.json")
    started: list[UUID] = []

    def start(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FOR UPDATE" in statement and not started:
            started.append(validibot.run(submission, status="RUNNING", ended_at=None))

    event.listen(Engine, "before_cursor_execute", start)
    try:
        report = run(reclaim_residue, as_of=NOW)
    finally:
        event.remove(Engine, "before_cursor_execute", start)
    assert started
    assert (report.done, report.deferred) == (0, 1)
    assert (validibot.bundle(run_id) / "input.json").exists()


def test_10_12_what_cannot_be_deleted_or_listed_fails_alone(validibot: Validibot) -> None:
    residue = Residue(validibot)
    blocked = residue.run()
    validibot.file(f"runs/{validibot.org_id}/{blocked}")
    good = residue.run()
    residue.files(good, "input.json")
    (validibot.root / "private" / "runs" / "99").symlink_to("/")
    artifact = residue.run()
    (validibot.root / "private/artifacts/folder").mkdir(parents=True)
    validibot.insert(
        schema.artifacts,
        validation_run_id=artifact,
        org_id=validibot.org_id,
        file="artifacts/folder",
    )
    report = run(reclaim_residue, as_of=NOW)
    assert not validibot.bundle(good).exists()
    assert {one.item for one in report.failures} == {"folder runs/99", f"run {artifact}"}
    assert len(validibot.rows(schema.artifacts)) == 1


def test_10_12_a_link_in_the_place_of_a_bundle_goes_as_a_link(validibot: Validibot) -> None:
    residue = Residue(validibot)
    run_id = residue.run()
    kept = validibot.file("elsewhere/a")
    folder = validibot.bundle(run_id)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(kept.parent)
    report = run(reclaim_residue, as_of=NOW)
    assert (report.done, report.files) == (1, 1)
    assert validibot.files() == {"private/elsewhere/a"}


def test_10_12_the_queued_purge_of_a_purged_submission_goes(validibot: Validibot) -> None:
    validibot.queued(Residue(validibot).submission(), last_error="weather.epw: denied")
    assert run(reclaim_residue, as_of=NOW).done == 1
    assert validibot.rows(schema.purge_retries) == {}


def test_10_12_traces_stay_where_the_setting_says_so(
    validibot: Validibot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINTENANCE_REDACT_INPUT_TRACES", "false")
    settings_module.settings.cache_clear()
    residue = Residue(validibot)
    residue.attempt(residue.step(residue.run()))
    assert run(reclaim_residue, as_of=NOW).selected == 0


def test_10_12_a_group_is_looked_up_again_bundle_by_bundle(
    validibot: Validibot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "GROUP", 2)
    residue = Residue(validibot)
    for _ in range(5):
        residue.files(uuid4(), "input.json")
    asked = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT validations_validationrun.id \nFROM"):
            asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert run(reclaim_residue, as_of=NOW).done == 5
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert len(asked) >= 3


def test_10_12_at_most_so_many_batches(validibot: Validibot) -> None:
    residue = Residue(validibot)
    for _ in range(4):
        residue.files(uuid4(), "input.json")
    report = run(reclaim_residue, as_of=NOW, batch_size=1, max_batches=3)
    assert (report.done, report.stopped_because) == (3, "max_batches")
    assert run(reclaim_residue, as_of=NOW + DAY).done == 1
