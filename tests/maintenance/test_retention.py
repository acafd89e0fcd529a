from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from psycopg import sql
from sqlalchemy import (
    Connection,
    DateTime,
    Engine,
    Integer,
    Interval,
    String,
    column,
    literal,
    select,
    text,
    values,
)

from maintenance.database import engine_for
from maintenance.retention import (
    BACKOFF,
    INPUT_DAYS,
    INPUT_POLICIES,
    OUTPUT_DAYS,
    backoff,
    backoff_expression,
    deadline_expression,
    submission_deadline,
)
from maintenance.settings import Settings

CREATED = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENDED = datetime(2026, 3, 5, 18, 30, 0, 1, tzinfo=UTC)

# What the requirements say, written down a second time.
INPUT = {"STORE_1_DAY": 1, "STORE_7_DAYS": 7, "STORE_30_DAYS": 30}
OUTPUT = {**INPUT, "STORE_90_DAYS": 90, "STORE_1_YEAR": 365}
WITHOUT_DATE = ("DO_NOT_STORE", "STORE_PERMANENTLY", "", "store_7_days", "STORE_FOREVER", "7")
SECONDS = {1: 60, 2: 300, 3: 3600, 4: 21_600, 5: 86_400, 6: 86_400, 7: 86_400, 8: 86_400}

# Clocks in Berlin and New York change within these days.
CHANGES = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
]
near_a_change = st.builds(
    lambda change, offset: change + offset,
    st.sampled_from(CHANGES),
    st.timedeltas(min_value=timedelta(days=-366), max_value=timedelta(days=2)),
)


@pytest.fixture
def connection(environment: Settings, database: Engine) -> Iterator[Connection]:
    """A job's connection, in a database whose own time zone changes its clocks."""
    name = sql.Identifier(str(database.url.database)).as_string()
    with database.begin() as other:
        other.execute(text(f"ALTER DATABASE {name} SET timezone = 'Europe/Berlin'"))
    with engine_for(environment, "clear-sessions").connect() as connected:
        yield connected


def test_days_of_the_policies_are_those_of_the_requirements() -> None:
    assert INPUT_DAYS == INPUT
    assert OUTPUT_DAYS == OUTPUT
    assert set(INPUT_POLICIES) == {*INPUT, "DO_NOT_STORE", "STORE_PERMANENTLY"}


@pytest.mark.parametrize(("policy", "days"), INPUT.items())
def test_a_submissions_days_count_from_the_end_of_its_latest_run(policy: str, days: int) -> None:
    assert submission_deadline(policy, CREATED, ENDED) == ENDED + timedelta(days=days)


@pytest.mark.parametrize(("policy", "days"), INPUT.items())
def test_without_an_ended_run_they_count_from_its_creation(policy: str, days: int) -> None:
    assert submission_deadline(policy, CREATED, None) == CREATED + timedelta(days=days)


@pytest.mark.parametrize("policy", [*WITHOUT_DATE, "STORE_90_DAYS", "STORE_1_YEAR"])
@pytest.mark.parametrize("ended", [None, ENDED])
def test_other_policies_give_a_submission_no_deadline(policy: str, ended: datetime | None) -> None:
    assert submission_deadline(policy, CREATED, ended) is None


def test_an_end_before_the_creation_still_counts() -> None:
    early = CREATED - timedelta(days=3)
    assert submission_deadline("STORE_1_DAY", CREATED, early) == early + timedelta(days=1)


@profile(
    max_examples=60,
    deadline=None,
    derandomize=True,
    # The examples share one connection: they only compute.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(bases=st.lists(near_a_change, min_size=1, max_size=8))
def test_deadlines_in_sql_are_those_in_python_across_clock_changes(
    connection: Connection, bases: list[datetime]
) -> None:
    for days in (INPUT, OUTPUT):
        pairs = [(policy, base) for policy in (*OUTPUT, *WITHOUT_DATE) for base in bases]
        rows = values(
            column("policy", String), column("base", DateTime(timezone=True)), name="rows"
        ).data(pairs)
        found = connection.execute(
            select(
                rows.c.policy,
                rows.c.base,
                deadline_expression(rows.c.policy, rows.c.base, days).label("deadline"),
            )
        )
        expected = {
            (policy, base, base + timedelta(days=days[policy]) if policy in days else None)
            for policy, base in pairs
        }
        assert {tuple(row) for row in found} == expected


def test_a_session_in_another_zone_would_have_moved_the_deadline(database: Engine) -> None:
    """Why jobs set UTC: a day is 23 hours long where clocks go forward."""
    base = datetime(2026, 3, 28, 12, tzinfo=UTC)
    expression = deadline_expression(
        literal("STORE_1_DAY"), literal(base, DateTime(timezone=True)), INPUT_DAYS
    )
    with database.begin() as berlin:
        berlin.execute(text("SET LOCAL timezone = 'Europe/Berlin'"))
        assert berlin.execute(select(expression)).scalar_one() == base + timedelta(hours=23)


@pytest.mark.parametrize(("failures", "seconds"), SECONDS.items())
def test_backoff_after_each_failure(failures: int, seconds: int) -> None:
    assert backoff(failures) == timedelta(seconds=seconds)


def test_backoff_in_sql_is_that_in_python(connection: Connection) -> None:
    rows = values(column("failures", Integer), name="rows").data([(n,) for n in (*SECONDS, 1000)])
    found = connection.execute(
        select(rows.c.failures, backoff_expression(rows.c.failures).cast(Interval))
    )
    expected = {n: timedelta(seconds=seconds) for n, seconds in SECONDS.items()}
    assert {row.failures: row[1] for row in found} == expected | {1000: timedelta(days=1)}


def test_backoff_never_gets_shorter_and_never_gives_up() -> None:
    assert all(earlier < later for earlier, later in pairwise(BACKOFF))
    assert {backoff(n) for n in range(len(BACKOFF), 10_000)} == {timedelta(hours=24)}
