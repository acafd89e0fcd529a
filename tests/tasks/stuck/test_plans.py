"""The statements of cleanup-stuck-runs use the indexes that Validibot has (SPEC 6.1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, event

from demo.sample import SampleSpec, load_sample
from maintenance.cutoff import Cutoff
from tasks.batching.keyset import KeysetCursor
from tasks.stuck.finalization_preview import preview_after_time_out, preview_finalization
from tasks.stuck.follow_up import execution_ids_of
from tasks.stuck.rows import lock_attempts, read_stuck, write_time_outs
from tasks.stuck.selection import (
    STUCK_BY_START,
    claimable,
    count_of_stuck,
    stuck_runs,
    without_start,
)
from tests.support.stuck import TIMEOUT
from tests.support.validibot import DAY, NOW

AS_OF = Cutoff(NOW, NOW)
ROWS = 50
BY_STATUS = "validations_status_ba8d2b_idx"
BY_STEP = "validations_executionattempt_step_run_id", "uq_attempt_"


@pytest.fixture(scope="module")
def filled(module_database: Engine, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Enough rows that a sequential scan would be the wrong plan, few of them RUNNING."""
    spec = SampleSpec(submissions=4_000, stuck_share=0.5, with_files=False)
    load_sample(module_database, tmp_path_factory.mktemp("sample"), spec, NOW)
    return module_database


@contextmanager
def plans_of(engine: Engine) -> Iterator[list[str]]:
    """Collect the plan of every statement that the block sends."""
    sent: list[tuple[str, Any]] = []
    plans: list[str] = []

    def note(_connection: Connection, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        sent.append((statement, values))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield plans
    finally:
        event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        for statement, values in sent:
            found = connection.exec_driver_sql(f"EXPLAIN {statement}", values)
            plans.append("\n".join(row[0] for row in found))


def test_what_hangs_is_found_by_its_status_and_its_attempts_by_their_step(filled: Engine) -> None:
    cursor = KeysetCursor(NOW - DAY, UUID(int=0))
    pages = [
        claimable(AS_OF, TIMEOUT).limit(ROWS),
        claimable(AS_OF, TIMEOUT).where(STUCK_BY_START.after(cursor)).limit(ROWS),
        stuck_runs(AS_OF, TIMEOUT).limit(ROWS),
        count_of_stuck(AS_OF, TIMEOUT),
        without_start(AS_OF).limit(ROWS),
    ]
    with plans_of(filled) as plans, filled.begin() as connection:
        for page in pages:
            connection.execute(page)
    assert len(plans) == len(pages)
    for plan in plans:
        assert BY_STATUS in plan, plan
        assert any(name in plan for name in BY_STEP), plan
        assert "Seq Scan" not in plan, plan
    assert "Sort Key: validations_validationrun.created" in plans[0]


def test_every_statement_on_a_batch_finds_its_rows_by_an_index(filled: Engine) -> None:
    with filled.connect() as connection:
        page = claimable(AS_OF, TIMEOUT).limit(ROWS)
        ids = [row.id for row in connection.execute(page)]
    assert len(ids) == ROWS
    with plans_of(filled) as plans, filled.connect() as connection:
        lock_attempts(connection, ids)
        stuck = read_stuck(connection, ids, AS_OF, TIMEOUT)
        preview_after_time_out(connection, ids, ids)
        preview_finalization(connection, ids)
        write_time_outs(connection, stuck)
        execution_ids_of(connection, ids)
    assert len(stuck) == ROWS
    assert len(plans) > 10
    for plan in plans:
        if "submissions_purgeretry" in plan:
            continue  # a queue is short, and reading it whole is the right plan
        assert "Seq Scan" not in plan, plan
