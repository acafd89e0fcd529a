from datetime import UTC, datetime, timedelta, timezone

import pytest

from maintenance.cutoff import Cutoff, choose_cutoff
from maintenance.errors import ParameterError

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)


@pytest.mark.parametrize("dry_run", [False, True])
def test_without_a_parameter_the_databases_time_is_the_cutoff(dry_run: bool) -> None:
    assert choose_cutoff(None, NOW, dry_run=dry_run) == Cutoff(NOW, NOW)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("age", [timedelta(0), TICK, timedelta(days=4000)])
def test_a_moment_up_to_now_is_accepted(age: timedelta, dry_run: bool) -> None:
    assert choose_cutoff(NOW - age, NOW, dry_run=dry_run) == Cutoff(NOW - age, NOW)


@pytest.mark.parametrize("ahead", [TICK, timedelta(days=1)])
def test_a_moment_in_the_future_is_a_forecast_or_refused(ahead: timedelta) -> None:
    assert choose_cutoff(NOW + ahead, NOW, dry_run=True) == Cutoff(NOW + ahead, NOW)
    with pytest.raises(ParameterError, match="allowed with dry_run only") as caught:
        choose_cutoff(NOW + ahead, NOW, dry_run=False)
    assert (NOW + ahead).isoformat() in str(caught.value)
    assert NOW.isoformat() in str(caught.value)


def test_a_moment_without_a_zone_is_utc() -> None:
    naive = datetime(2026, 11, 15, 11, 59)  # noqa: DTZ001 - that is the point
    cutoff = choose_cutoff(naive, NOW, dry_run=False)
    assert cutoff.as_of == datetime(2026, 11, 15, 11, 59, tzinfo=UTC)
    assert cutoff.as_of.tzinfo is UTC


def test_a_moment_without_a_zone_is_compared_as_utc() -> None:
    naive = datetime(2026, 11, 15, 12, 0, 0, 1)  # noqa: DTZ001 - that is the point
    with pytest.raises(ParameterError):
        choose_cutoff(naive, NOW, dry_run=False)


def test_another_zone_is_turned_into_utc() -> None:
    tokyo = timezone(timedelta(hours=9))
    cutoff = choose_cutoff(datetime(2026, 11, 15, 21, tzinfo=tokyo), NOW, dry_run=False)
    assert cutoff.as_of.isoformat() == "2026-11-15T12:00:00+00:00"
    with pytest.raises(ParameterError):
        choose_cutoff(datetime(2026, 11, 15, 21, 0, 1, tzinfo=tokyo), NOW, dry_run=False)
