"""Work for every job at once."""

from datetime import timedelta

from maintenance import schema
from maintenance.continuations import present_in
from tests.support.residue import leave_residue
from tests.support.stuck import Hanging
from tests.support.validibot import DAY, NOW, TICK, Validibot


def work_for_every_job(validibot: Validibot) -> None:
    """Add rows and files of every kind: to be deleted, to fail, to be deferred, to be repaired."""
    expired = validibot.submission()
    run_id = validibot.run(expired)
    step = validibot.step_run(run_id)
    attempt = validibot.attempt(step)
    validibot.trace(step)
    validibot.queued(expired, next_retry_at=NOW - DAY)
    validibot.file(f"runs/{validibot.org_id}/{run_id}/attempts/{attempt}/input/a.json")
    validibot.file("submissions/weather.epw")
    validibot.port_file(expired, input_file="submissions/weather.epw")
    validibot.file("submissions/uploaded.json")
    validibot.submission(input_file="submissions/uploaded.json")
    validibot.file("submissions/folder/in-the-way.json")
    validibot.submission(input_file="submissions/folder")
    validibot.submission(expires_at=None)
    validibot.submission(retention_policy="DO_NOT_STORE")
    validibot.submission(retention_policy="STORE_FOR_EVER")
    busy = validibot.submission()
    validibot.run(busy, status="RUNNING", ended_at=None)
    for number, values in enumerate(({}, {"output_expires_at": None}, {"ended_at": None})):
        outputs = {"output_retention_policy": "STORE_7_DAYS", "output_expires_at": NOW - DAY}
        ended = validibot.run(None, **{**outputs, **values})
        step = validibot.step_run(ended)
        validibot.attempt(step)
        key = f"artifacts/{number}"
        validibot.file(key)
        validibot.insert(
            schema.artifacts, validation_run_id=ended, org_id=validibot.org_id, file=key
        )
        validibot.insert(schema.findings, validation_run_id=ended, validation_step_run_id=step)
    hanging = Hanging(validibot)
    kept = validibot.submission(retention_policy="DO_NOT_STORE", expires_at=None)
    for submission in (None, kept, validibot.submission(expires_at=None)):
        hanging.tried(hanging.run(submission))
    leave_residue(validibot)
    for age in (DAY, TICK, timedelta(0)):
        validibot.session(NOW - age)
        validibot.idempotency_key(NOW - age)
        receipt = validibot.receipt(NOW - 30 * DAY - age, run_id)
        if present_in(validibot.version):
            validibot.continuation(run_id, receipt)
    if present_in(validibot.version):
        _waiting(validibot, hanging)


def _waiting(validibot: Validibot, hanging: Hanging) -> None:
    """Add a run that waits for its next step, and outputs with the errors of callbacks."""
    waiting = hanging.run()
    hanging.tried(waiting)
    validibot.continuation(waiting, state="PENDING")
    ended = validibot.run(None, output_retention_policy="STORE_7_DAYS", output_expires_at=NOW - DAY)
    receipt = validibot.receipt(NOW - DAY, ended, last_error="about alice", result_uri="file:///r")
    validibot.continuation(ended, receipt)
