"""The choice between a time scan and a block scan."""

import pytest
from sqlalchemy import Engine, text

from maintenance.expiring import SESSIONS
from tasks.expiry.planner import TableFacts, facts_of
from tasks.expiry.ranges import Due
from tests.support.sessions import fill_sessions
from tests.support.validibot import NOW, TICK

SECOND = 1_000_000 * TICK
LARGE = TableFacts(
    blocks=10_000, rows_per_block=25.0, correlation=0.0, due_rows=200_000, indexed=True
)


@pytest.mark.parametrize(
    ("change", "by_blocks"),
    [
        ({}, True),
        ({"correlation": 1.0}, True),
        ({"correlation": -1.0}, True),
        # A tenth of the rows: scattered over the table, or in a tenth of its blocks.
        ({"due_rows": 25_000}, True),
        ({"due_rows": 25_000, "correlation": 1.0}, False),
        ({"due_rows": 25_000, "correlation": 0.9}, False),
        ({"due_rows": 25_000, "correlation": -0.9}, False),
        # Less than one row per block: most blocks would hold none.
        ({"due_rows": 9_999}, False),
        ({"due_rows": 0}, False),
        ({"due_rows": 125_000, "correlation": 1.0}, True),
        ({"due_rows": 124_999, "correlation": 1.0}, False),
        # Small tables and missing statistics.
        ({"blocks": 127}, False),
        ({"rows_per_block": 0.0}, False),
        ({"correlation": None}, False),
        # Without an index only a block scan is possible.
        ({"indexed": False}, True),
        ({"indexed": False, "blocks": 1, "rows_per_block": 0.0, "correlation": None}, True),
    ],
)
def test_the_scan_follows_from_the_table_facts(
    change: dict[str, float | bool | None], by_blocks: bool
) -> None:
    facts = TableFacts(**{**LARGE.__dict__, **change})
    assert facts.by_blocks(50_000) is by_blocks


def test_a_batch_that_is_smaller_than_a_block_cannot_be_cut_by_blocks() -> None:
    assert LARGE.by_blocks(291)
    assert not LARGE.by_blocks(290)


@pytest.mark.parametrize(
    ("per_block", "rows", "blocks"),
    [(25.0, 50_000, 2_000), (25.0, 1, 1), (25.0, 49, 1), (0.0, 2_910, 10)],
)
def test_a_batch_has_as_many_blocks_as_hold_its_rows(
    per_block: float, rows: int, blocks: int
) -> None:
    assert TableFacts(1, per_block, 0.0, 0, indexed=True).blocks_of(rows) == blocks


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_facts_come_from_the_database(database: Engine, shuffled: bool) -> None:
    fill_sessions(database, rows=6_000, due=2_000, shuffled=shuffled)
    with database.connect() as connection:
        facts = facts_of(connection, Due(SESSIONS, NOW))
        size = connection.execute(text("SELECT pg_relation_size('django_session')")).scalar_one()
    assert facts.blocks == size / 8192
    assert facts.rows_per_block == pytest.approx(6_000 / facts.blocks)
    assert facts.due_rows == pytest.approx(2_000, rel=0.1)
    assert facts.indexed
    assert facts.correlation is not None
    assert (abs(facts.correlation) > 0.9) is not shuffled


def test_a_table_that_was_never_analyzed_is_unknown(database: Engine) -> None:
    with database.connect() as connection:
        facts = facts_of(connection, Due(SESSIONS, NOW - SECOND))
    assert (facts.blocks, facts.rows_per_block, facts.correlation) == (0, 0.0, None)
    assert not facts.by_blocks(50_000)
