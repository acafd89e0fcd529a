"""cleanup-stuck-runs as a whole: what it reports, forecasts, refuses, and leaves (SPEC 2, 6.1)."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from prefect.exceptions import ParameterTypeError
from sqlalchemy import Engine, text

from flows.cleanup_stuck_runs import cleanup_stuck_runs
from maintenance import schema
from maintenance.report import Report
from maintenance.settings import Settings
from tasks.stuck import runs as stuck_runs
from tests.support.runs import run
from tests.support.stuck import CUTOFF, MINUTE, Hanging
from tests.support.validibot import NOW, Validibot


@pytest.fixture
def hanging(environment: Settings, validibot: Validibot) -> Hanging:
    return Hanging(validibot)


def clean(**parameters: Any) -> Report:
    return run(cleanup_stuck_runs, **{"as_of": NOW, **parameters})


def test_runs_without_a_start_are_named_and_left(hanging: Hanging) -> None:
    unknown = {str(hanging.run(started_at=None)) for _ in range(22)}
    before = hanging.validibot.snapshot()
    for dry_run in (True, False):
        report = clean(dry_run=dry_run)
        (warning,) = report.warnings
        assert warning.startswith("22 runs are RUNNING without a start and without a deadline")
        named = set(warning.partition("timed out: ")[2].removesuffix(", ...").split(", "))
        assert len(named) == 20
        assert named < unknown
        assert (report.selected, report.failed) == (0, 0)
    assert hanging.validibot.snapshot() == before


def test_what_is_left_is_counted_as_overdue(hanging: Hanging) -> None:
    runs = [hanging.run(started_at=CUTOFF - minutes * MINUTE) for minutes in (3, 2, 1)]
    report = clean(batch_size=1, max_batches=1)
    assert (report.done, report.stopped_because) == (1, "max_batches")
    rows = hanging.validibot.rows(schema.runs)
    assert [rows[one]["status"] for one in runs] == ["TIMED_OUT", "RUNNING", "RUNNING"]
    assert report.overdue is not None
    assert report.overdue.rows == 2
    age = report.overdue.oldest_age_seconds
    assert age is not None
    assert 0 < (datetime.now(UTC) - NOW + 2 * MINUTE).total_seconds() - age < 60


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_everything_that_hangs_ends_whatever_the_batch_size(
    hanging: Hanging, batch_size: int
) -> None:
    stuck = {hanging.run() for _ in range(7)}
    for run_id in list(stuck)[:3]:
        hanging.tried(run_id)
    live = hanging.run(started_at=NOW)
    report = clean(batch_size=batch_size)
    assert (report.selected, report.done, report.stopped_because) == (7, 7, "drained")
    rows = hanging.validibot.rows(schema.runs)
    assert {key for key, row in rows.items() if row["status"] == "TIMED_OUT"} == stuck
    assert rows[live]["status"] == "RUNNING"
    assert {row["run_id"] for row in hanging.validibot.rows(schema.evidence).values()} == stuck


def test_a_dry_run_says_which_and_changes_nothing(hanging: Hanging) -> None:
    app = hanging.validibot
    shared = app.submission(retention_policy="DO_NOT_STORE", expires_at=None)
    for number in range(3):
        hanging.tried(hanging.run(shared if number < 2 else app.submission()))
    app.run(app.submission(), status="RUNNING", ended_at=None)
    before = app.snapshot()
    forecast = clean(dry_run=True, batch_size=2)
    assert app.snapshot() == before
    real = clean(batch_size=1)
    same = ("selected", "fingerprint", "rows_by_table", "repaired", "unknown_policies")
    assert [getattr(forecast, name) for name in same] == [getattr(real, name) for name in same]
    assert real.done == 3


@pytest.mark.parametrize("minutes", [0, -1, 43_201])
def test_a_timeout_out_of_bounds_is_refused(hanging: Hanging, minutes: int) -> None:
    hanging.run()
    before = hanging.validibot.snapshot()
    with pytest.raises(ParameterTypeError, match="timeout_minutes"):
        clean(timeout_minutes=minutes)
    assert hanging.validibot.snapshot() == before


def test_rows_with_times_that_cannot_be_computed_do_not_stop_the_others(
    hanging: Hanging, database: Engine
) -> None:
    odd, odder, plain = hanging.run(), hanging.run(), hanging.run()
    attempt = hanging.tried(odder)
    with database.begin() as connection:
        connection.execute(
            text("UPDATE validations_validationrun SET started_at = '-infinity' WHERE id = :id"),
            {"id": odd},
        )
        connection.execute(
            text("UPDATE validations_executionattempt SET timeout_at = '-infinity' WHERE id = :id"),
            {"id": attempt},
        )
    clean()
    with database.connect() as connection:
        query = text("SELECT id, status FROM validations_validationrun")
        found: dict[UUID, str] = {row.id: row.status for row in connection.execute(query)}
    assert found == dict.fromkeys((odd, odder, plain), "TIMED_OUT")


def test_2_9_a_transient_error_is_tried_again_as_in_the_ten_minute_jobs() -> None:
    for name in ("time_out_stuck_runs", "follow_up_earlier_runs", "count_stuck_runs"):
        task = getattr(stuck_runs, name)
        assert (task.retries, task.retry_delay_seconds) == (3, [60, 120, 240])
