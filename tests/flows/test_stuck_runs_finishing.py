"""A timed-out run is finalized by this run of the job, or by the next one (SPEC 6.4)."""

import shutil
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from flows.cleanup_stuck_runs import cleanup_stuck_runs
from maintenance import schema
from maintenance.report import Report
from maintenance.settings import Settings
from maintenance.timed_out import timed_out_error
from tests.support.markers import mark_storage
from tests.support.runs import run
from tests.support.stuck import Hanging
from tests.support.validibot import NOW, Validibot


@pytest.fixture
def hanging(environment: Settings, validibot: Validibot) -> Hanging:
    return Hanging(validibot)


def clean(**parameters: Any) -> Report:
    return run(cleanup_stuck_runs, **{"as_of": NOW, **parameters})


def with_evidence(hanging: Hanging) -> set[UUID]:
    rows = hanging.validibot.rows(schema.evidence).values()
    return {row["run_id"] for row in rows if row["availability"] == "GENERATED"}


def statuses(hanging: Hanging) -> set[str]:
    return {row["status"] for row in hanging.validibot.rows(schema.runs).values()}


def in_the_way(hanging: Hanging, run_id: UUID) -> Path:
    """A file where the run's evidence needs a directory."""
    return hanging.validibot.file(f"evidence/{hanging.validibot.org_id}/{run_id}")


@pytest.mark.parametrize("batch_size", [1, 100])
def test_evidence_that_cannot_be_written_fails_its_run_and_no_other(
    hanging: Hanging, batch_size: int
) -> None:
    runs = [hanging.run() for _ in range(5)]
    obstacle = in_the_way(hanging, runs[2])
    report = clean(batch_size=batch_size)
    assert (report.selected, report.done, report.failed) == (5, 4, 1)
    (failure,) = report.failures
    assert failure.item == f"run {runs[2]}"
    assert statuses(hanging) == {"TIMED_OUT"}
    assert with_evidence(hanging) == set(runs) - {runs[2]}
    again = clean()
    assert (again.selected, again.done, again.failed) == (1, 0, 1)
    obstacle.unlink()
    mended = clean()
    assert (mended.selected, mended.done, mended.failed) == (1, 1, 0)
    assert mended.repaired == {"runs finished": 1}
    assert with_evidence(hanging) == set(runs)
    assert clean().selected == 0


def test_a_storage_that_is_missing_does_not_keep_runs_alive(hanging: Hanging) -> None:
    runs = {hanging.run() for _ in range(3)}
    for run_id in runs:
        hanging.tried(run_id)
    shutil.rmtree(hanging.validibot.root / "private")
    report = clean(batch_size=2)
    assert statuses(hanging) == {"TIMED_OUT"}
    assert (report.selected, report.done, report.failed) == (3, 0, 3)
    assert {one.item for one in report.failures} == {f"run {run_id}" for run_id in runs}
    assert all("timed out, but not finalized yet" in one.cause for one in report.failures)
    (hanging.validibot.root / "private").mkdir()
    mark_storage(hanging.validibot.root)
    mended = clean()
    assert (mended.selected, mended.done) == (3, 3)
    assert with_evidence(hanging) == runs


def test_a_run_that_the_last_run_of_the_job_did_not_finish_is_finished(hanging: Hanging) -> None:
    app = hanging.validibot
    submission = app.submission(retention_policy="DO_NOT_STORE", expires_at=None)
    left = hanging.left(submission, error=timed_out_error(90))
    hanging.left(error="Stopped by alice")
    before = app.row(schema.runs, left)
    report = clean()
    assert with_evidence(hanging) == {left}
    after = app.row(schema.runs, left)
    kept = ("status", "error", "ended_at", "modified", "duration_ms")
    assert [after[name] for name in kept] == [before[name] for name in kept]
    assert after["definition_released_at"] > NOW
    assert {row["submission_id"] for row in app.rows(schema.purge_retries).values()} == {submission}
    assert (report.selected, report.done) == (1, 1)
    assert report.repaired == {"purges queued": 1, "runs finished": 1}


def test_a_backlog_of_unfinished_runs_does_not_hold_up_those_that_hang(
    hanging: Hanging, database: Engine
) -> None:
    left = {hanging.left() for _ in range(3)}
    stuck = hanging.run()
    report = clean(max_batches=1, batch_size=1)
    # Batches that follow up earlier runs have a share of their own (SPEC 10.10).
    assert (report.done, report.stopped_because) == (4, "max_batches")
    assert with_evidence(hanging) == {stuck, *left}
    with database.connect() as connection:
        query = text("SELECT count(*) FROM validations_validationrun WHERE status = 'RUNNING'")
        assert connection.execute(query).scalar_one() == 0
