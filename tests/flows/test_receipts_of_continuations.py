"""cleanup-callback-receipts, where continuations name receipts (SPEC 7).

The reference is set to NULL with the DELETE, whatever the application does at the same time.
"""

import time
import uuid
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from flows.cleanup_callback_receipts import cleanup_callback_receipts
from maintenance import schema
from maintenance.expiring import CALLBACK_RECEIPTS
from maintenance.report import Report
from maintenance.settings import Settings
from tasks.expiry import statements
from tasks.expiry.ranges import Due, TimeRange
from tasks.expiry.references import live_references
from tests.support.hooks import at_statement
from tests.support.poison import HANG, REFUSE, poison
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, TICK, Validibot

JOB = cleanup_callback_receipts.name
RECEIPTS, CONTINUATIONS = schema.callback_receipts.name, schema.continuations.name
UNIQUE = f"{CONTINUATIONS}_callback_receipt_id_key"
OLD = NOW - 31 * DAY
DELETE = f"DELETE FROM {RECEIPTS}"
WAITING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE :job"
    " AND wait_event_type = 'Lock'"
)


@pytest.fixture(autouse=True)
def _environment(environment: Settings) -> None:
    """Every test here runs against its own database."""


def clean(**parameters: Any) -> Report:
    return run(cleanup_callback_receipts, **{"as_of": NOW, **parameters})


def named(validibot: Validibot, **values: Any) -> tuple[uuid.UUID, uuid.UUID]:
    """A receipt that is due and the continuation that names it."""
    run_id = validibot.run(None)
    receipt = validibot.receipt(values.pop("received", OLD), run_id)
    return receipt, validibot.continuation(run_id, receipt, **values)


def receipt_of(validibot: Validibot, continuation: uuid.UUID) -> uuid.UUID | None:
    found: uuid.UUID | None = validibot.row(schema.continuations, continuation)[
        "callback_receipt_id"
    ]
    return found


def test_a_continuation_whose_receipt_is_deleted_keeps_all_but_the_reference(
    validibot: Validibot,
) -> None:
    due = [named(validibot) for _ in range(3)]
    kept, keeping = named(validibot, received=NOW - 30 * DAY)
    unnamed = validibot.receipt(OLD, validibot.run(None))
    before = validibot.rows(schema.continuations)
    forecast = clean(dry_run=True)
    assert validibot.rows(schema.continuations) == before
    report = clean()
    assert set(validibot.rows(schema.callback_receipts)) == {kept}
    freed = {key: row | {"callback_receipt_id": None} for key, row in before.items()}
    assert validibot.rows(schema.continuations) == freed | {keeping: before[keeping]}
    assert unnamed not in validibot.rows(schema.callback_receipts)
    assert report.rows_by_table == forecast.rows_by_table
    assert report.rows_by_table == {RECEIPTS: len(due) + 1, CONTINUATIONS: len(due)}
    assert (report.selected, report.done, report.failed) == (4, 4, 0)


def test_receipts_of_one_time_and_in_small_batches_are_freed_as_well(
    validibot: Validibot,
) -> None:
    equal = [named(validibot)[1] for _ in range(7)]
    spread = [named(validibot, received=OLD + n * TICK)[1] for n in range(1, 8)]
    report = clean(batch_size=2)
    assert validibot.rows(schema.callback_receipts) == {}
    assert {receipt_of(validibot, one) for one in (*equal, *spread)} == {None}
    assert report.rows_by_table == {RECEIPTS: 14, CONTINUATIONS: 14}


def test_receipts_that_are_found_by_blocks_are_freed_as_well(
    validibot: Validibot, database: Engine
) -> None:
    continuations = [named(validibot)[1] for _ in range(5)]
    with database.begin() as connection:
        connection.execute(text("DROP INDEX validations_receive_c9be3d_idx"))
    report = clean()
    assert validibot.rows(schema.callback_receipts) == {}
    assert {receipt_of(validibot, one) for one in continuations} == {None}
    assert report.rows_by_table == {RECEIPTS: 5, CONTINUATIONS: 5}


@pytest.mark.parametrize("table", [RECEIPTS, CONTINUATIONS])
def test_a_receipt_that_the_application_works_on_is_left_to_the_next_run(
    validibot: Validibot, database: Engine, table: str
) -> None:
    others = [named(validibot) for _ in range(5)]
    receipt, continuation = named(validibot)
    key = receipt if table == RECEIPTS else continuation
    with database.begin() as application:
        application.execute(text(f"SELECT FROM {table} WHERE id = '{key}' FOR UPDATE"))
        report = clean()
    assert set(validibot.rows(schema.callback_receipts)) == {receipt}
    assert receipt_of(validibot, continuation) == receipt
    assert {receipt_of(validibot, one) for _, one in others} == {None}
    assert (report.done, report.failed, report.deferred) == (5, 0, 1)
    assert report.rows_by_table == {RECEIPTS: 5, CONTINUATIONS: 5}
    assert clean().rows_by_table == {RECEIPTS: 1, CONTINUATIONS: 1}
    assert receipt_of(validibot, continuation) is None


def insert_naming(
    validibot: Validibot, receipt: uuid.UUID, run_id: uuid.UUID
) -> Callable[[Any], uuid.UUID]:
    """Return what the application does: in its transaction, write a continuation."""
    step = validibot.step_run(validibot.run(None))

    def insert(connection: Any) -> uuid.UUID:
        key = uuid.uuid4()
        values = {
            "id": key,
            "created": NOW,
            "modified": NOW,
            "resume_from_step": 10,
            "state": "PENDING",
            "dispatch_attempts": 0,
            "execution_attempts": 0,
            "transport_task_id": "",
            "last_error": "",
            "last_error_code": "",
            "callback_receipt_id": receipt,
            "completed_step_run_id": step,
            "validation_run_id": run_id,
        }
        connection.execute(schema.continuations.insert().values(values))
        return key

    return insert


def test_a_continuation_that_is_committed_while_its_receipt_is_deleted_is_freed(
    validibot: Validibot, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The DELETE waits for the key lock of the application, and does not see what it committed."""
    monkeypatch.setattr(statements, "LOCK_TIMEOUT_SECONDS", 10)
    run_id = validibot.run(None)
    receipt = validibot.receipt(OLD, run_id)
    others = [named(validibot)[1] for _ in range(3)]
    insert = insert_naming(validibot, receipt, run_id)
    with database.connect() as application:
        made = insert(application)
        application.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))  # takes the key lock

        def commit_once_waited_for() -> None:
            end = time.monotonic() + 8
            with database.connect().execution_options(isolation_level="AUTOCOMMIT") as observer:
                while not observer.scalar(WAITING, {"job": f"%{JOB}%"}) and time.monotonic() < end:
                    time.sleep(0.005)
            application.commit()

        committer = Thread(target=commit_once_waited_for)
        committer.start()
        with at_statement(JOB, DELETE, lambda _: None, times=100) as met:
            report = clean()
        committer.join()
    # The first attempt was refused at its COMMIT, and the second one found the reference.
    assert len(met) > 1
    assert validibot.rows(schema.callback_receipts) == {}
    assert receipt_of(validibot, made) is None
    assert {receipt_of(validibot, one) for one in others} == {None}
    assert (report.done, report.failed, report.deferred) == (4, 0, 0)


def test_a_continuation_that_is_being_written_defers_its_receipt(
    validibot: Validibot, database: Engine
) -> None:
    run_id = validibot.run(None)
    receipt = validibot.receipt(OLD, run_id)
    insert = insert_naming(validibot, receipt, run_id)
    with database.begin() as application:
        made = insert(application)
        application.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        report = clean()
        assert (report.done, report.failed, report.deferred) == (0, 0, 1)
    assert receipt_of(validibot, made) == receipt
    assert clean().done == 1
    assert receipt_of(validibot, made) is None


def test_the_run_of_a_new_continuation_is_active_and_so_protects_its_receipt(
    validibot: Validibot, database: Engine
) -> None:
    """The application locks no receipt before its COMMIT, which must not fail because of us."""
    run_id = validibot.run(None, status="RUNNING", ended_at=None)
    receipt = validibot.receipt(OLD, run_id)
    insert = insert_naming(validibot, receipt, run_id)
    with database.connect() as application:
        made = insert(application)
        report = clean()
        application.commit()
    assert (report.selected, report.failed) == (0, 0)
    assert receipt_of(validibot, made) == receipt


@pytest.mark.parametrize(("does", "at_commit"), [(REFUSE, False), (REFUSE, True), (HANG, False)])
def test_10_7_a_continuation_that_cannot_be_freed_fails_its_receipt_alone(
    validibot: Validibot,
    database: Engine,
    does: str,
    at_commit: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if does == HANG:
        monkeypatch.setattr("tasks.expiry.delete_pass.MAX_STATEMENT_SECONDS", 0.2)
    others = [named(validibot, received=OLD + n * TICK)[1] for n in range(8)]
    receipt, continuation = named(validibot, received=OLD + 4 * TICK)
    poison(database, CONTINUATIONS, continuation, does, at_commit=at_commit)
    report = clean()
    assert set(validibot.rows(schema.callback_receipts)) == {receipt}
    assert receipt_of(validibot, continuation) == receipt
    assert {receipt_of(validibot, one) for one in others} == {None}
    assert (report.done, report.failed) == (8, 1)
    (failure,) = report.failures
    assert failure.item.startswith(f"{RECEIPTS} row with ctid ")


def test_without_an_index_the_receipts_go_and_the_report_names_the_statement(
    validibot: Validibot, database: Engine
) -> None:
    continuations = [named(validibot)[1] for _ in range(5)]
    locked, keeping = named(validibot)
    with database.begin() as connection:
        connection.execute(text(f"ALTER TABLE {CONTINUATIONS} DROP CONSTRAINT {UNIQUE}"))
    with database.begin() as application:
        application.execute(text(f"SELECT FROM {CONTINUATIONS} WHERE id = '{keeping}' FOR UPDATE"))
        report = clean()
    assert set(validibot.rows(schema.callback_receipts)) == {locked}
    assert {receipt_of(validibot, one) for one in continuations} == {None}
    advice = f"CREATE INDEX CONCURRENTLY ON {CONTINUATIONS} (callback_receipt_id)"
    assert any(warning.endswith(advice) for warning in report.warnings)


def test_the_references_are_found_by_their_index(validibot: Validibot, database: Engine) -> None:
    run_id = validibot.run(None)
    step = validibot.step_run(run_id)
    with database.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(
            text(
                f"INSERT INTO {CONTINUATIONS} SELECT now(), now(), gen_random_uuid(), 10,"
                " 'COMPLETED', NULL, NULL, 0, '', NULL, NULL, NULL, 0, NULL, '', '',"
                " gen_random_uuid(), :step + number, :run"
                " FROM generate_series(1, 5000) AS number"
            ),
            {"step": step, "run": run_id},
        )
        connection.execute(text(f"ANALYZE {CONTINUATIONS}"))
    (reference,) = live_references(database, CALLBACK_RECEIPTS)
    due = Due(CALLBACK_RECEIPTS, NOW, (reference,))
    ids = select(schema.callback_receipts.c.id).where(TimeRange(None, None).scope(due))
    freed = schema.continuations.update().where(reference.names(ids))
    with database.connect() as connection:
        plain = freed.values(callback_receipt_id=None).compile(
            connection, compile_kwargs={"literal_binds": True}
        )
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {plain}").scalars())
    assert f"Index Scan on {UNIQUE}" in plan
    assert f"Seq Scan on {CONTINUATIONS}" not in plan
