"""One row with a time that Python cannot hold stops no job (SPEC 10.7)."""

from contextlib import suppress

import pytest
from sqlalchemy import DateTime, text
from sqlalchemy.exc import IntegrityError

from flows.backlog import read_backlogs
from flows.jobs import JOBS
from maintenance import schema
from maintenance.access import ACCESS
from maintenance.report import StopReason
from maintenance.settings import Settings
from tests.support.runs import run
from tests.support.validibot import NOW, Validibot

ODD = ("-infinity", "infinity", "0044-03-15 00:00:00+00 BC", "9999-12-30 00:00:00+00")
WRITING = sorted(job for job, access in ACCESS.items() if access.update or access.delete)


def is_time(table: str, column: str) -> bool:
    return isinstance(schema.metadata.tables[table].columns[column].type, DateTime)


EVIDENCE = "validations_runevidenceartifact"
"""Has no rows until the job writes them."""
NEVER = {"ctid", "content_purged_at"}
"""The latter is read as null or not, and not null only where content is cleared."""
COLUMNS = [
    (job, table, column)
    for job in WRITING
    for table, columns in sorted(ACCESS[job].select.items())
    if table not in {EVIDENCE, "django_migrations"}  # the latter identifies the application
    for column in sorted(columns)
    if column not in NEVER and is_time(table, column)
]


def put(validibot: Validibot, table: str, column: str) -> int:
    """Give every other row, in the order of insertion, an odd time; return to how many.

    A constraint may refuse some of the values.
    """
    key = next(iter(schema.metadata.tables[table].primary_key.columns)).name
    done = 0
    with validibot.engine.connect() as connection:
        keys = connection.scalars(text(f"SELECT {key} FROM {table} ORDER BY ctid")).all()
    statement = text(f"UPDATE {table} SET {column} = CAST(:odd AS timestamptz) WHERE {key} = :key")
    for odd, row in zip(ODD, keys[::2], strict=False):
        with suppress(IntegrityError), validibot.engine.begin() as connection:
            connection.execute(statement, {"odd": odd, "key": row})
            done += 1
    return done


@pytest.mark.parametrize(("job", "table", "column"), COLUMNS)
def test_10_7_odd_times_in_any_column_that_a_job_reads_leave_the_others_done(
    job: str, table: str, column: str, environment: Settings, validibot_with_work: Validibot
) -> None:
    validibot = validibot_with_work
    assert put(validibot, table, column) > 0
    forecast = run(JOBS[job].flow, as_of=NOW, dry_run=True)
    assert forecast.stopped_because is StopReason.DRAINED
    assert read_backlogs()[job].problem == ""
    report = run(JOBS[job].flow, as_of=NOW)
    assert report.stopped_because is StopReason.DRAINED
    assert report.done > 0
