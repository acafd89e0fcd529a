"""Names of flow runs say which job, when, and what is special."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.jobs import JOBS
from flows.run.run_name import LATE, name_of, run_name

DUE = datetime(2026, 11, 25, 14, tzinfo=UTC)
TICK = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("dry_run", "scheduled", "late", "marks"),
    [
        (False, True, timedelta(0), ""),
        (True, True, timedelta(0), ", dry run"),
        (False, False, timedelta(0), ", by hand"),
        (True, False, timedelta(0), ", dry run, by hand"),
        (False, True, LATE, ""),
        (False, True, LATE + TICK, ", catch-up"),
        (False, False, LATE + TICK, ", by hand"),
    ],
)
def test_2_7_a_run_is_named_after_job_time_and_what_is_special(
    dry_run: bool, scheduled: bool, late: timedelta, marks: str
) -> None:
    fields = {"flow_id": uuid4(), "expected_start_time": DUE, "auto_scheduled": scheduled}
    run = FlowRun.model_validate(fields)
    name = name_of("clear-sessions", {"dry_run": dry_run}, run, DUE + late)
    assert name == f"clear-sessions 2026-11-25 14:00{marks}"


def test_2_7_every_job_names_its_runs_so() -> None:
    assert {job.flow.flow_run_name for job in JOBS.values()} == {run_name}
