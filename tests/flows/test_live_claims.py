"""Files are deleted only while the claim on their rows is alive (SPEC 10.2)."""

import signal
import time
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from sqlalchemy import Engine, text

from flows.purge_expired_outputs import purge_expired_outputs
from flows.purge_expired_submissions import purge_expired_submissions
from maintenance import schema
from tests.support.commands import CODE, Command, without_prefect
from tests.support.validibot import BEFORE, DAY, NOW, Validibot

ITEMS = 20
IDLE_SECONDS = 1.0

PROGRAM = """
import os, signal, sys
from pathlib import Path
real, seen = os.unlink, []
def unlink(path, *args, **options):
    real(path, *args, **options)
    seen.append(path)
    if len(seen) == 5:
        os.kill(os.getpid(), signal.SIGSTOP)
os.unlink = os.remove = unlink
from tasks.retrying import BACKOFF
BACKOFF[:] = [0.0] * len(BACKOFF)
from flows.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
"""A run that is frozen right after it has deleted its fifth file; it retries at once."""


def stopped(process: Command) -> None:
    """Wait until the process has stopped itself."""
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert process.poll() is None, "the run ended before it was frozen"
        time.sleep(0.01)


def claims_end(engine: Engine) -> None:
    """Wait until no session of ours is in a transaction any more."""
    busy = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE 'validibot-maintenance%' AND xact_start IS NOT NULL"
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with engine.connect() as connection:
            if not connection.execute(busy).scalar_one():
                return
    pytest.fail("the claim was never ended")


def make(validibot: Validibot, job: str) -> dict[UUID, Path]:
    """Items of a job that are due, each with one file."""
    made: dict[UUID, Path] = {}
    for number in range(ITEMS):
        if job == purge_expired_submissions.name:
            key = f"submissions/{number}.json"
            made[validibot.submission(input_file=key)] = validibot.file(key)
        else:
            run_id = validibot.run(
                None,
                output_retention_policy="STORE_1_DAY",
                output_expires_at=NOW - DAY,
                ended_at=BEFORE,
            )
            key = f"runs/{validibot.org_id}/{run_id}/output.json"
            made[run_id] = validibot.file(key)
    return made


def keep(engine: Engine, job: str) -> None:
    """What the operator does meanwhile: nothing of this is to be deleted."""
    table, policy, deadline = (
        (schema.submissions, "retention_policy", "expires_at")
        if job == purge_expired_submissions.name
        else (schema.runs, "output_retention_policy", "output_expires_at")
    )
    with engine.begin() as connection:
        connection.execute(table.update().values({policy: "STORE_PERMANENTLY", deadline: None}))


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("job", [purge_expired_submissions.name, purge_expired_outputs.name])
def test_10_2_a_run_that_was_frozen_deletes_no_file_of_rows_that_changed_meanwhile(
    validibot: Validibot, database: Engine, job: str
) -> None:
    files = make(validibot, job)
    variables = {"MAINTENANCE_IDLE_IN_TRANSACTION_TIMEOUT_SECONDS": str(IDLE_SECONDS)}
    options = ("--as-of", NOW.isoformat(), "--json")
    process = Command(CODE, PROGRAM, job, *options, env=without_prefect(**variables))
    try:
        stopped(process)
        claims_end(database)
        keep(database, job)
        left = {item for item, path in files.items() if path.exists()}
        assert len(left) in range(ITEMS - 8, ITEMS)
        process.send_signal(signal.SIGCONT)
        printed, log = process.communicate(timeout=120)
    finally:
        process.kill()
    kept = {item for item, path in files.items() if path.exists()}
    assert len(left - kept) <= 1, log
    table = schema.submissions if job == purge_expired_submissions.name else schema.runs
    stamp = "content_purged_at" if table is schema.submissions else "output_purged_at"
    assert {row[stamp] for row in validibot.rows(table).values()} == {None}
    assert "idle-in-transaction timeout" in printed + log
    assert '"failed":0' in printed, log
