"""Every purge beside an application that works on the same rows at that moment (SPEC 2.4)."""

from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from flows.jobs import JOBS
from maintenance import schema
from maintenance.settings import Settings
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot
from tests.support.writer import live_writer

PURGES = ("purge-expired-submissions", "process-purge-retries", "purge-expired-outputs")
SUBMISSIONS = 150
ROUNDS = 4


@pytest.fixture(autouse=True)
def _environment(environment: Settings) -> None:
    """Every test here runs against its own database and storage."""


def fill(validibot: Validibot) -> list[UUID]:
    """Submissions that are expired and queued, each with a run whose outputs are expired."""
    ids = []
    for _ in range(SUBMISSIONS):
        identifier = validibot.submission()
        run_id = validibot.run(
            identifier,
            output_retention_policy="STORE_7_DAYS",
            output_expires_at=NOW - DAY,
        )
        validibot.step_run(run_id)
        validibot.file(f"runs/{validibot.org_id}/{run_id}/input.json")
        validibot.queued(identifier)
        ids.append(identifier)
    return ids


@pytest.mark.parametrize("job", PURGES)
def test_a_purge_and_a_live_application_do_not_disturb_each_other(
    job: str, validibot: Validibot, database: Engine
) -> None:
    ids = fill(validibot)
    flow = JOBS[job].flow
    done = 0
    with live_writer(database, ids) as writer:
        for _ in range(ROUNDS):
            report = run(flow, as_of=NOW, batch_size=10)
            assert report.failed == 0, report.failures
            done += report.done
            # At any moment: what is being worked on has its content, and its outputs.
            with database.connect() as connection:
                assert connection.execute(VIOLATIONS).scalar_one() == 0
    assert writer.errors == []
    assert done > 0
    assert {"_create", "_finish"} <= {name for name, number in writer.done.items() if number}

    # Once the application rests, the rest of the work is done, and nothing is left over.
    with database.begin() as connection:
        connection.execute(
            text(
                "UPDATE validations_validationrun SET status = 'SUCCEEDED', ended_at = :end"
                " WHERE status = 'RUNNING'"
            ),
            {"end": NOW - 8 * DAY},
        )
    report = run(flow, as_of=NOW)
    assert report.failed == 0
    if job == "purge-expired-outputs":
        rows = validibot.rows(schema.runs).values()
        assert not [row for row in rows if row["output_expires_at"] == NOW - DAY]


VIOLATIONS = text(
    "SELECT count(*) FROM validations_validationrun r"
    " LEFT JOIN submissions_submission s ON s.id = r.submission_id"
    " WHERE r.status = 'RUNNING'"
    " AND (s.content_purged_at IS NOT NULL OR r.output_purged_at IS NOT NULL)"
)
