"""The rules that hold for every job (SPEC 2); each test names the rule it is about.

Rules 2.4 to 2.6 under concurrency and failure have files of their own.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect import Flow
from prefect.exceptions import ParameterTypeError
from sqlalchemy import Engine, text

from flows.clear_sessions import clear_sessions
from flows.jobs import JOBS
from flows.purge_expired_submissions import purge_expired_submissions
from maintenance import schema
from maintenance.errors import ParameterError, SchemaMismatch
from maintenance.guard import guard
from maintenance.settings import Settings
from tests.support.residue import WEEK, leave_residue, touch
from tests.support.runs import run
from tests.support.stuck import CUTOFF, TIMEOUT, Hanging
from tests.support.validibot import DAY, NOW, TICK, Contents, Validibot

ALL_JOBS = [pytest.param(job.flow, id=name) for name, job in JOBS.items()]

ON_CONTAINERS = {"cleanup-orphaned-containers"}
"""Jobs that work on a container engine; other tests cover them where there is one."""

DATABASE_JOBS = [
    pytest.param(job.flow, id=name) for name, job in JOBS.items() if name not in ON_CONTAINERS
]


@pytest.fixture(autouse=True)
def _environment(environment: Settings) -> None:
    """Every test here runs against its own database and storage."""


MADE: list[Contents] = []


def odd_mixture(validibot: Validibot) -> None:
    """Rows of every kind that the jobs treat in some way; made once, because each test has them."""
    if MADE:
        validibot.put(MADE[0])
    else:
        make_odd_mixture(validibot)
        MADE.append(validibot.contents())


def make_odd_mixture(validibot: Validibot) -> None:
    for deadline in (NOW - DAY, NOW, NOW + TICK):
        identifier = validibot.submission(created=deadline - 7 * DAY, expires_at=deadline)
        step_id = validibot.step_run(validibot.run(identifier, ended_at=None))
        validibot.attempt(step_id)
        validibot.trace(step_id)
        validibot.port_file(identifier, input_file=None)
    validibot.file("submissions/1.json")
    with_file = validibot.submission(input_file="submissions/1.json")
    run_id = validibot.run(with_file)
    validibot.file(f"runs/{validibot.org_id}/{run_id}/input.json")
    validibot.file(f"runs/{validibot.org_id}/{run_id}/output.json")
    validibot.queued(with_file)
    for policy in ("DO_NOT_STORE", "STORE_PERMANENTLY", "ODD"):
        validibot.submission(retention_policy=policy)
    validibot.submission(expires_at=None)
    validibot.submission(expires_at=None, created=NOW - DAY)
    validibot.submission(created=NOW - DAY)
    validibot.run(validibot.submission(), status="RUNNING", ended_at=None)
    waiting = validibot.submission()
    in_a_century = NOW + 36_500 * DAY
    validibot.queued(waiting, attempt_count=1, next_retry_at=in_a_century, last_attempt_at=NOW)
    for moment in (NOW - DAY, NOW - TICK, NOW, NOW + TICK):
        validibot.session(moment)
        validibot.idempotency_key(moment)
    month = 30 * DAY
    for status in ("SUCCEEDED", "RUNNING"):
        kept = validibot.submission(expires_at=None, retention_policy="STORE_PERMANENTLY")
        run_id = validibot.run(kept, status=status)
        for moment in (NOW - month - DAY, NOW - month - TICK, NOW - month, NOW):
            validibot.receipt(moment, run_id)
    outputs_of_every_kind(validibot)
    hanging_of_every_kind(validibot)
    leave_residue(validibot)


def hanging_of_every_kind(validibot: Validibot) -> None:
    """Runs that hang for different reasons, and runs that only look like it."""
    hanging = Hanging(validibot)
    for policy in ("STORE_7_DAYS", "DO_NOT_STORE", "STORE_PERMANENTLY", "ODD"):
        submission = validibot.submission(retention_policy=policy, expires_at=None)
        run_id = hanging.run(submission, output_retention_policy=policy)
        hanging.attempt(hanging.step(run_id), state="PENDING")
        hanging.step(run_id, 2, status="PENDING")
    twice = validibot.submission(expires_at=None)
    for deadline in (NOW - DAY, NOW):
        hanging.tried(hanging.run(twice), timeout_at=deadline)
    busy = validibot.submission(expires_at=None)
    hanging.run(busy)
    hanging.tried(hanging.run(busy), timeout_at=NOW + TICK)
    hanging.run(started_at=CUTOFF)
    hanging.run(started_at=None)
    for policy in ("STORE_7_DAYS", "DO_NOT_STORE"):
        hanging.left(validibot.submission(retention_policy=policy, expires_at=None))
    hanging.left(error="of its own accord", definition_released_at=NOW)


def outputs_of_every_kind(validibot: Validibot) -> None:
    """Runs that have ended, with each policy, deadline and gap that matters."""
    for number, (policy, deadline, ended) in enumerate(
        (policy, deadline, ended)
        for policy in ("STORE_7_DAYS", "DO_NOT_STORE", "STORE_PERMANENTLY", "ODD")
        for deadline in (NOW - DAY, None, NOW + DAY)
        for ended in (NOW - 8 * DAY, None)
    ):
        run_id = validibot.run(
            None,
            output_retention_policy=policy,
            output_expires_at=deadline,
            ended_at=ended,
            error="x",
        )
        key = f"artifacts/{number}"
        validibot.file(key)
        validibot.insert(
            schema.artifacts, validation_run_id=run_id, org_id=validibot.org_id, file=key
        )
        validibot.file(f"runs/{validibot.org_id}/{run_id}/output.json")
    stored = validibot.submission(retention_policy="DO_NOT_STORE", expires_at=None)
    validibot.run(stored, output_retention_policy="STORE_30_DAYS", output_expires_at=None)
    validibot.submission(retention_policy="ODD", expires_at=None)


@pytest.mark.parametrize("flow", ALL_JOBS)
def test_2_1_the_cutoff_is_the_database_clock_read_once(
    flow: Flow[..., Any], validibot: Validibot, database: Engine
) -> None:
    with database.connect() as connection:
        before = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        as_of = run(flow).as_of
        after = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert before < as_of < after


@pytest.mark.parametrize("flow", ALL_JOBS)
def test_2_1_a_future_cutoff_is_refused_before_anything_is_touched(
    flow: Flow[..., Any], validibot: Validibot
) -> None:
    odd_mixture(validibot)
    before = validibot.snapshot()
    future = datetime.now(UTC) + timedelta(hours=1)
    with pytest.raises(ParameterError, match=r"future.*dry_run"):
        run(flow, as_of=future)
    assert validibot.snapshot() == before


@pytest.mark.parametrize("flow", DATABASE_JOBS)
def test_2_1_a_future_cutoff_is_a_forecast_in_a_dry_run(
    flow: Flow[..., Any], validibot: Validibot
) -> None:
    future = datetime.now(UTC) + 30 * DAY
    due = validibot.submission(created=future - 7 * DAY - TICK, expires_at=future - TICK)
    later = validibot.submission(created=future - 7 * DAY + TICK, expires_at=future + TICK)
    validibot.queued(due, next_retry_at=future)
    validibot.queued(later, next_retry_at=future + TICK)
    for deadline in (future, future + TICK):
        validibot.run(
            None, output_retention_policy="STORE_7_DAYS", output_expires_at=deadline, ended_at=NOW
        )
    validibot.session(future - TICK)
    validibot.session(future)
    validibot.idempotency_key(future - TICK)
    validibot.idempotency_key(future)
    lasting = validibot.run(None)
    validibot.receipt(future - 30 * DAY - TICK, lasting)
    validibot.receipt(future - 30 * DAY, lasting)
    hanging = Hanging(validibot)
    for started in (future - TIMEOUT - TICK, future - TIMEOUT):
        hanging.run(started_at=started)
    for written in (future - WEEK - TICK, future - WEEK):
        run_id = uuid4()
        touch(validibot.file(f"runs/{validibot.org_id}/{run_id}/input.json"), written)
    before = validibot.snapshot()
    assert run(flow, as_of=future, dry_run=True).selected == 1
    assert validibot.snapshot() == before


def test_2_1_a_cutoff_without_a_zone_is_utc(validibot: Validibot) -> None:
    assert run(clear_sessions, as_of=NOW.replace(tzinfo=None)).as_of == NOW


def test_2_1_stamps_are_the_time_of_the_write_and_not_the_cutoff(validibot: Validibot) -> None:
    gone = validibot.submission()
    started = run(clear_sessions).as_of
    run(purge_expired_submissions, as_of=NOW)
    assert validibot.row(schema.submissions, gone)["content_purged_at"] > started > NOW


@pytest.mark.parametrize("flow", DATABASE_JOBS)
def test_2_2_a_dry_run_changes_nothing_and_says_what_the_real_run_does(
    flow: Flow[..., Any], validibot: Validibot
) -> None:
    odd_mixture(validibot)
    before = validibot.snapshot()
    forecast = run(flow, as_of=NOW, dry_run=True)
    assert validibot.snapshot() == before
    real = run(flow, as_of=NOW)
    assert real.selected > 0
    same = (
        "selected",
        "fingerprint",
        "rows_by_table",
        "repaired",
        "unknown_policies",
        "files",
        "bytes",
        "oldest",
        "newest",
    )
    assert {name: getattr(forecast, name) for name in same} == {
        name: getattr(real, name) for name in same
    }
    assert (forecast.done, real.done) == (0, real.selected)


@pytest.mark.parametrize("flow", DATABASE_JOBS)
def test_2_2_a_dry_run_does_not_even_need_the_right_to_write(
    flow: Flow[..., Any], validibot: Validibot, database: Engine
) -> None:
    odd_mixture(validibot)
    with database.connect() as connection:
        name = connection.engine.url.database
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
        connection.commit()
    assert run(flow, as_of=NOW, dry_run=True).selected > 0


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_2_3_a_run_drains_everything_whatever_the_batch_size(
    validibot: Validibot, batch_size: int
) -> None:
    gone = {validibot.submission() for _ in range(7)}
    for _ in range(7):
        validibot.session(NOW - DAY)
    report = run(purge_expired_submissions, as_of=NOW, batch_size=batch_size)
    assert validibot.purged() == gone
    assert (report.done, report.stopped_because) == (7, "drained")
    assert run(clear_sessions, as_of=NOW, batch_size=batch_size).done == 7
    assert validibot.rows(schema.sessions) == {}


def test_2_3_submissions_that_share_a_deadline_are_all_selected_once(validibot: Validibot) -> None:
    gone = {validibot.submission() for _ in range(9)}
    assert run(purge_expired_submissions, as_of=NOW, batch_size=2).selected == 9
    assert validibot.purged() == gone


def test_2_3_a_run_stops_after_max_batches_and_says_so(validibot: Validibot) -> None:
    for number in range(5):
        validibot.session(NOW - number * DAY - TICK)
    report = run(clear_sessions, as_of=NOW, batch_size=1, max_batches=2)
    assert (report.done, report.batches, report.stopped_because) == (2, 2, "max_batches")
    assert report.overdue is not None
    assert report.overdue.rows == 3
    left = {row["expire_date"] for row in validibot.rows(schema.sessions).values()}
    assert left == {NOW - number * DAY - TICK for number in (0, 1, 2)}


def test_2_3_a_run_stops_when_its_time_is_used_up_and_says_so(validibot: Validibot) -> None:
    for number in range(50):
        validibot.session(NOW - number * DAY - TICK)
    report = run(clear_sessions, as_of=NOW, batch_size=1, time_budget=1e-6)
    assert report.stopped_because == "time_budget"
    assert report.done < 50


@pytest.mark.parametrize("flow", DATABASE_JOBS)
def test_2_5_a_second_run_at_once_changes_nothing(
    flow: Flow[..., Any], validibot: Validibot
) -> None:
    odd_mixture(validibot)
    run(flow, as_of=NOW)
    before = validibot.snapshot()
    report = run(flow, as_of=NOW)
    assert (report.selected, report.repaired) == (0, {})
    assert validibot.snapshot() == before


def test_2_7_a_report_names_what_is_still_overdue_and_its_age(validibot: Validibot) -> None:
    oldest = validibot.submission()
    validibot.file(f"runs/{validibot.org_id}/{validibot.run(oldest)}")  # a file, no directory
    report = run(purge_expired_submissions, as_of=NOW)
    assert report.failed == 1
    assert report.overdue is not None
    assert report.overdue.rows == 1
    age = report.overdue.oldest_age_seconds
    assert age is not None
    assert age > (datetime.now(UTC) - NOW + DAY).total_seconds() - 60


@pytest.mark.parametrize("flow", DATABASE_JOBS)
def test_2_8_a_second_run_ends_as_skipped_and_names_the_run_that_holds_the_job(
    flow: Flow[..., Any], validibot: Validibot, environment: Settings
) -> None:
    odd_mixture(validibot)
    before = validibot.snapshot()
    holder = uuid4()
    with guard(environment, flow.name, holder):
        report = run(flow, as_of=NOW)
    assert report.stopped_because == "skipped"
    assert str(holder) in report.summary()
    assert validibot.snapshot() == before
    assert run(flow, as_of=NOW).done > 0


def test_2_8_a_dry_run_needs_no_guard_because_it_does_not_act(
    validibot: Validibot, environment: Settings
) -> None:
    validibot.session(NOW - DAY)
    with guard(environment, clear_sessions.name, uuid4()):
        assert run(clear_sessions, as_of=NOW, dry_run=True).selected == 1


@pytest.mark.parametrize("flow", ALL_JOBS)
@pytest.mark.parametrize(
    ("parameter", "value", "allowed"),
    [
        ("batch_size", 0, "greater than or equal to 1"),
        ("batch_size", 1_000_001, "less than or equal to (50000|1000000)"),
        ("batch_size", "many", "valid integer"),
        ("time_budget", 0, "greater than 0"),
        ("time_budget", -1, "greater than 0"),
        ("max_batches", 0, "greater than or equal to 1"),
        ("as_of", "yesterday", "valid datetime"),
        ("dry_run", "perhaps", "valid boolean"),
    ],
)
def test_2_10_a_bad_parameter_is_refused_with_what_is_allowed(
    flow: Flow[..., Any], validibot: Validibot, parameter: str, value: object, allowed: str
) -> None:
    odd_mixture(validibot)
    before = validibot.snapshot()
    with pytest.raises(ParameterTypeError, match=allowed):
        run(flow, **{parameter: value})
    assert validibot.snapshot() == before


@pytest.mark.parametrize(
    ("flow", "damage", "missing"),
    [
        (
            clear_sessions,
            "ALTER TABLE django_session RENAME COLUMN expire_date TO x",
            "column django_session.expire_date",
        ),
        (clear_sessions, "DROP TABLE django_session", "table django_session"),
        (
            purge_expired_submissions,
            "ALTER TABLE validations_validationrun DROP COLUMN short_description",
            "column validations_validationrun.short_description",
        ),
    ],
)
def test_2_11_a_database_that_is_not_understood_is_left_alone(
    flow: Flow[..., Any], validibot: Validibot, database: Engine, damage: str, missing: str
) -> None:
    gone = validibot.submission()
    with database.begin() as connection:
        connection.execute(text(damage))
    with pytest.raises(SchemaMismatch, match=missing):
        run(flow, as_of=NOW)
    with database.connect() as connection:
        query = text("SELECT content_purged_at FROM submissions_submission WHERE id = :id")
        assert connection.execute(query, {"id": gone}).scalar_one() is None


def test_2_12_modified_moves_only_where_the_specification_says(validibot: Validibot) -> None:
    odd_mixture(validibot)
    before = validibot.snapshot()
    stamped = validibot.purged()
    run(purge_expired_submissions, as_of=NOW)
    purged = validibot.purged() - stamped
    moved: dict[str, set[Any]] = {}
    for table in schema.metadata.sorted_tables:
        if "modified" not in table.c:
            continue
        old = before[table.name]
        changed = {
            key
            for key, row in validibot.rows(table).items()
            if row["modified"] != old[key]["modified"]
        }
        if changed:
            moved[table.name] = changed
    port_rows = validibot.rows(schema.input_files)
    assert moved == {
        "submissions_submission": purged,
        "submissions_submissioninputfile": {
            key for key, row in port_rows.items() if row["submission_id"] in purged
        },
    }
