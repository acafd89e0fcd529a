"""Times and texts that PostgreSQL holds and Python does not (SPEC 10.7)."""

import copy
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from maintenance.database import engine_for, transaction
from maintenance.odd_values import FIRST, LAST, OddTime, clamped, later
from maintenance.settings import Settings

JOB = "clear-sessions"
NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ODD = {
    "infinity": ("infinity", LAST),
    "-infinity": ("-infinity", FIRST),
    "0044-03-15 12:00+00 BC": ("0044-03-15 12:00:00+00 BC", FIRST),
    "10000-01-01 00:00:00.5+00": ("10000-01-01 00:00:00.5+00", LAST),
    "294276-12-31 23:59:59.999999+00": ("294276-12-31 23:59:59.999999+00", LAST),
}
PLAIN = ["0001-01-01 00:00+00", "2026-11-15 12:00+02", "9999-12-31 23:59:59.999999+00"]


def read(engine: Engine, written: str) -> datetime:
    with transaction(engine) as connection:
        query = text("SELECT CAST(:written AS timestamptz)")
        found: datetime = connection.execute(query, {"written": written}).scalar_one()
        return found


@pytest.mark.parametrize("written", ODD)
def test_10_7_an_odd_time_is_read_in_its_place_and_sent_back_as_it_was(
    environment: Settings, database: Engine, written: str
) -> None:
    engine = engine_for(environment, JOB)
    moment = read(engine, written)
    expected, end = ODD[written]
    assert isinstance(moment, OddTime)
    assert (str(moment), moment.isoformat(), f"{moment:%Y}") == (expected,) * 3
    assert moment == end
    assert clamped(moment) == end
    with transaction(engine) as connection:
        same = connection.execute(
            text("SELECT CAST(:moment AS timestamptz) = CAST(:written AS timestamptz)"),
            {"moment": moment, "written": written},
        )
        assert same.scalar_one() is True


@pytest.mark.parametrize("written", PLAIN)
def test_10_7_any_other_time_is_a_plain_datetime(
    environment: Settings, database: Engine, written: str
) -> None:
    moment = read(engine_for(environment, JOB), written)
    assert type(moment) is datetime
    assert moment == datetime.fromisoformat(written)


@pytest.mark.parametrize("written", ["infinity", "0044-03-15 00:00:00+00 BC"])
def test_10_7_arithmetic_with_an_odd_time_does_not_overflow(written: str) -> None:
    moment = OddTime.of(written)
    assert moment + DAY is moment
    assert moment - DAY is moment
    assert moment.astimezone(UTC) is moment
    assert (NOW - moment) == (NOW - clamped(moment))
    assert (moment - NOW) == (clamped(moment) - NOW)
    for same in (copy.deepcopy(moment), pickle.loads(pickle.dumps(moment))):  # noqa: S301
        assert (type(same), str(same)) == (OddTime, written)


@pytest.mark.parametrize(
    ("moment", "span", "found"),
    [
        (NOW, DAY, NOW + DAY),
        (LAST - DAY, DAY, LAST),
        (LAST - DAY, 2 * DAY, LAST),
        (FIRST + DAY, -2 * DAY, FIRST),
        (NOW, timedelta.max, LAST),
        (NOW, timedelta.min, FIRST),
    ],
)
def test_10_7_a_span_never_leads_beyond_the_range(
    moment: datetime, span: timedelta, found: datetime
) -> None:
    assert later(moment, span) == found


def test_a_text_with_a_nul_is_refused_as_before(environment: Settings, database: Engine) -> None:
    engine = engine_for(environment, JOB)
    with transaction(engine) as connection:
        query = text("SELECT CAST(:value AS text)")
        assert connection.execute(query, {"value": "größe 数"}).scalar_one() == "größe 数"
        with pytest.raises(Exception, match="cannot contain NUL"):
            connection.execute(query, {"value": "a\x00b"})
