"""One row with a time that Python cannot hold stops no job (SPEC 10.7)."""

import pytest
from sqlalchemy import DateTime, text

from flows.backlog import read_backlogs
from flows.jobs import JOBS
from maintenance import schema
from maintenance.access import ACCESS
from maintenance.report import StopReason
from maintenance.settings import Settings
from tests.support.runs import run
from tests.support.validibot import NOW, Validibot
from tests.support.work import work_for_every_job

ODD = ("-infinity", "infinity", "0044-03-15 00:00:00+00 BC", "9999-12-30 00:00:00+00")
WRITING = sorted(job for job, access in ACCESS.items() if access.update or access.delete)
COLUMNS = [
    (job, table, column)
    for job in WRITING
    for table, columns in sorted(ACCESS[job].select.items())
    for column in sorted(columns)
    if column != "ctid" and isinstance(schema.metadata.tables[table].columns[column].type, DateTime)
]


@pytest.mark.parametrize(("job", "table", "column"), COLUMNS)
def test_10_7_an_odd_time_in_any_column_that_a_job_reads_leaves_the_others_done(
    job: str, table: str, column: str, environment: Settings, validibot: Validibot
) -> None:
    work_for_every_job(validibot)
    key = next(iter(schema.metadata.tables[table].primary_key.columns)).name
    for odd in ODD:
        with validibot.engine.begin() as connection:
            connection.execute(
                text(
                    f"UPDATE {table} SET {column} = CAST(:odd AS timestamptz) WHERE {key} ="
                    f" (SELECT {key} FROM {table} ORDER BY {key} LIMIT 1)"
                ),
                {"odd": odd},
            )
        forecast = run(JOBS[job].flow, as_of=NOW, dry_run=True)
        assert forecast.stopped_because is StopReason.DRAINED, odd
        assert read_backlogs()[job].problem == "", odd
    report = run(JOBS[job].flow, as_of=NOW)
    assert report.stopped_because is StopReason.DRAINED
    assert report.done > 0


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(("job", "table", "column"), COLUMNS)
@pytest.mark.slow
def test_10_7_a_run_with_an_odd_time_in_any_column_ends_with_its_work_done(
    job: str, table: str, column: str, odd: str, environment: Settings, validibot: Validibot
) -> None:
    work_for_every_job(validibot)
    key = next(iter(schema.metadata.tables[table].primary_key.columns)).name
    with validibot.engine.begin() as connection:
        connection.execute(
            text(
                f"UPDATE {table} SET {column} = CAST(:odd AS timestamptz) WHERE {key} ="
                f" (SELECT {key} FROM {table} ORDER BY {key} LIMIT 1)"
            ),
            {"odd": odd},
        )
    report = run(JOBS[job].flow, as_of=NOW)
    assert report.stopped_because is StopReason.DRAINED
    assert report.done > 0
