"""Which runs of this job are not finalized, and how cheaply they are found."""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import pytest
from sqlalchemy import Engine, event, text

from maintenance import schema
from maintenance.settings import Settings
from maintenance.storage.layout import Stores, open_stores
from tasks.batching.keyset import KeysetCursor
from tasks.stuck import finalization
from tasks.stuck.finalization import UnfinalizedPage, finalize, unfinalized_runs
from tests.support.timed_out import timed_out_run
from tests.support.validibot import BEFORE, DAY, NOW, TICK, Validibot


@pytest.fixture
def stores(environment: Settings, database: Engine) -> Iterator[Stores]:
    with open_stores(environment, database) as opened:
        yield opened


def pages(engine: Engine, limit: int, as_of: datetime = NOW) -> list[UnfinalizedPage]:
    """All pages, to the one that says that it is the last."""
    found: list[UnfinalizedPage] = []
    cursor: KeysetCursor | None = None
    with engine.connect() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        while not (found and found[-1].exhausted):
            found.append(unfinalized_runs(connection, cursor, limit, as_of))
            cursor = found[-1].cursor
    return found


def unfinalized(engine: Engine, limit: int = 100) -> set[UUID]:
    return {run_id for page in pages(engine, limit) for run_id in page.ids}


def receipt(validibot: Validibot, run_id: UUID, availability: str, path: str) -> None:
    validibot.insert(schema.evidence, run_id=run_id, availability=availability, manifest_path=path)


def test_a_run_without_evidence_or_with_a_held_definition_is_not_finalized(
    validibot: Validibot,
) -> None:
    cases = {
        "no evidence": (None, BEFORE, True),
        "no evidence and held": (None, None, True),
        "failed": (("FAILED", ""), BEFORE, True),
        "failed with a path": (("FAILED", "x"), BEFORE, True),
        "generated nowhere": (("GENERATED", ""), BEFORE, True),
        "generated but held": (("GENERATED", "x"), None, True),
        "finalized": (("GENERATED", "x"), BEFORE, False),
    }
    runs = {}
    for name, (row, released, _) in cases.items():
        runs[name] = timed_out_run(validibot, None, definition_released_at=released)
        if row:
            receipt(validibot, runs[name], *row)
    expected = {runs[name] for name, (_, _, found) in cases.items() if found}
    assert unfinalized(validibot.engine) == expected


def test_only_runs_that_this_job_timed_out_are_selected(validibot: Validibot) -> None:
    theirs = "Run timed out after 61 minutes - no callback received from validator. More text."
    mine = {
        timed_out_run(validibot, None),
        timed_out_run(validibot, None, error=theirs),
        timed_out_run(validibot, None, created=NOW),
        timed_out_run(validibot, None, modified=NOW - TICK),
        timed_out_run(validibot, None, error="", output_purged_at=NOW),
    }
    timed_out_run(validibot, None, status="FAILED")
    timed_out_run(validibot, None, status="RUNNING")
    timed_out_run(validibot, None, error_category="OOM")
    timed_out_run(validibot, None, error="The validator took too long.")
    timed_out_run(validibot, None, error="")
    timed_out_run(validibot, None, created=NOW + TICK)
    timed_out_run(validibot, None, modified=NOW)
    timed_out_run(validibot, None, error="", output_purged_at=NOW, definition_released_at=BEFORE)
    assert unfinalized(validibot.engine) == mine


@pytest.mark.parametrize("limit", [1, 3, 7])
@pytest.mark.parametrize("window", [1, 4, 5_000])
def test_pages_of_any_size_hold_every_run_once_and_the_oldest_first(
    validibot: Validibot, monkeypatch: pytest.MonkeyPatch, limit: int, window: int
) -> None:
    monkeypatch.setattr(finalization, "WINDOW", window)
    expected = []
    for number in range(7):
        created = NOW - (7 - number // 2) * DAY
        expected.append((created, timed_out_run(validibot, None, created=created)))
        finalized = timed_out_run(
            validibot, None, created=created + TICK, definition_released_at=BEFORE
        )
        receipt(validibot, finalized, "GENERATED", "x")
    found = pages(validibot.engine, limit)
    assert [run_id for page in found for run_id in page.ids] == [one for _, one in sorted(expected)]
    assert all(len(page.ids) <= limit for page in found)


def test_odd_times_do_not_stop_the_selection(validibot: Validibot) -> None:
    odd = [timed_out_run(validibot, None) for _ in range(3)]
    good = timed_out_run(validibot, None)
    with validibot.engine.begin() as connection:
        for run_id, time in zip(odd, ("-infinity", "infinity", "0044-03-15 BC"), strict=True):
            statement = "UPDATE validations_validationrun SET created = :time WHERE id = :id"
            connection.execute(text(statement), {"time": time, "id": run_id})
    assert unfinalized(validibot.engine) == {good}


def test_every_run_that_is_found_can_be_finalized(validibot: Validibot, stores: Stores) -> None:
    for row in (None, ("FAILED", ""), ("GENERATED", ""), ("GENERATED", "x")):
        run_id = timed_out_run(validibot, validibot.submission())
        if row:
            receipt(validibot, run_id, *row)
    timed_out_run(validibot, None, error="", output_purged_at=NOW)
    found = unfinalized(validibot.engine)
    assert len(found) == 5
    assert finalize(validibot.engine, stores, sorted(found)).done == 5
    assert unfinalized(validibot.engine) == set()


def test_the_selection_and_the_evidences_facts_are_found_by_indexes(
    validibot: Validibot, stores: Stores
) -> None:
    """The plans of every statement that is sent, on a database whose runs are mostly finalized."""
    some = timed_out_run(validibot, validibot.submission(), steps=(0, 1, 2))
    with validibot.engine.begin() as connection:
        connection.execute(text(MANY_RUNS), {"id": some, "now": NOW})
        for statement in MANY_STEPS, MANY_RECEIPTS:
            connection.execute(text(statement), {"id": some})
    with validibot.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    plans = explained(validibot.engine, stores, some)
    assert len(plans) > 8
    for table in ("validationrun", "validationsteprun", "runevidenceartifact"):
        for plan in plans:
            assert f"Seq Scan on validations_{table} " not in plan, plan
    assert "validations_status_ba8d2b_idx" in plans[0]
    assert "validations_runevidenceartifact_run_id_key" in plans[0]


MANY_RUNS = """
INSERT INTO validations_validationrun
SELECT (jsonb_populate_record(r, jsonb_build_object(
    'id', gen_random_uuid(), 'created', CAST(:now AS timestamptz) - n * interval '1 minute',
    'status', CASE WHEN n % 4 = 0 THEN 'TIMED_OUT' ELSE 'SUCCEEDED' END,
    'submission_id', NULL, 'definition_released_at', :now))).*
FROM validations_validationrun r, generate_series(1, 20000) n WHERE r.id = :id
"""
MANY_STEPS = """
INSERT INTO validations_validationsteprun (created, modified, step_order, status, duration_ms,
    output, error, validation_run_id, workflow_step_id, input_values, output_values,
    validator_backend_image_digest)
SELECT s.created, s.modified, s.step_order, s.status, 0, '{}', '', r.id, s.workflow_step_id,
    '{}', '{}', '' FROM validations_validationsteprun s, validations_validationrun r
WHERE s.validation_run_id = :id AND r.id <> :id
"""
MANY_RECEIPTS = """
INSERT INTO validations_runevidenceartifact (created, modified, id, schema_version, manifest_path,
    manifest_hash, availability, generation_error, run_id)
SELECT created, modified, gen_random_uuid(), '', 'x', '', 'GENERATED', '', id
FROM validations_validationrun WHERE id <> :id
"""


def explained(engine: Engine, stores: Stores, run_id: UUID) -> list[str]:
    """The plans of the statements that find and finalize a run, in their order."""
    plans: list[str] = []

    def before(_connection, cursor, statement, parameters, _context, _many):  # type: ignore[no-untyped-def]
        if statement.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "WITH")):
            with cursor.connection.cursor() as other:
                other.execute(f"EXPLAIN {statement}", parameters)
                plans.append("\n".join(line for (line,) in other.fetchall()))

    event.listen(engine, "before_cursor_execute", before)
    try:
        assert unfinalized(engine) == {run_id}
        assert finalize(engine, stores, [run_id]).done == 1
    finally:
        event.remove(engine, "before_cursor_execute", before)
    return plans
