"""Celery's crontab lines become cron lines that mean the same."""

import pytest

from maintenance.beat.crontab import Crontab, UnreadableCrontab, to_crontab


def translated(minute: str, hour: str, day: str, month: str, weekday: str) -> str:
    return to_crontab((minute, hour, day, month, weekday), "UTC").cron


@pytest.mark.parametrize(
    ("celery", "cron"),
    [
        (("0", "*", "*", "*", "*"), "0 * * * *"),
        (("*/5", "*", "*", "*", "*"), "*/5 * * * *"),
        (("0", "3", "*", "*", "*"), "0 3 * * *"),
        (("0", "4", "*", "*", "0"), "0 4 * * 0"),
        (("0", "4", "*", "*", "sunday"), "0 4 * * 0"),
        (("0", "4", "*", "*", "Mon,wed, FRI"), "0 4 * * 1,3,5"),
        (("0", "4", "*", "*", "mon-fri"), "0 4 * * 1-5"),
        (("0", "4", "*", "*", "fri-mon"), "0 4 * * 0,1,5,6"),
        (("0", "22-4", "*", "*", "*"), "0 0,1,2,3,4,22,23 * * *"),
        (("0", "22-4/3", "*", "*", "*"), "0 1,4,22 * * *"),
        (("1-59/2", "*", "*", "*", "*"), "1-59/2 * * * *"),
        (("05", "08", "1", "jan-march", "*"), "5 8 1 1-3 *"),
        (("0,30", "*/6", "1-7,15", "*/3", "*"), "0,30 */6 1-7,15 */3 *"),
    ],
)
def test_fields_are_translated(celery: tuple[str, str, str, str, str], cron: str) -> None:
    assert translated(*celery) == cron


@pytest.mark.parametrize(
    ("day", "weekday", "either"),
    [("*", "*", True), ("1", "*", True), ("*", "mon", True), ("1-7", "mon", False)],
)
def test_days_of_both_kinds_must_fit_when_both_are_restricted(
    day: str, weekday: str, either: bool
) -> None:
    assert to_crontab(("0", "0", day, "*", weekday), "UTC").day_or is either


@pytest.mark.parametrize(
    ("celery", "field"),
    [
        (("60", "*", "*", "*", "*"), "minute '60'"),
        (("*/0", "*", "*", "*", "*"), "minute '*/0'"),
        (("0", "24", "*", "*", "*"), "hour '24'"),
        (("0", "0", "0", "*", "*"), "day of the month '0'"),
        (("0", "0", "*", "13", "*"), "month '13'"),
        (("0", "0", "*", "*", "7"), "day of the week '7'"),
        (("0", "0", "*", "*", "someday"), "day of the week 'someday'"),
        (("0", "5/2", "*", "*", "*"), "hour '5/2'"),
        (("0", "*-5", "*", "*", "*"), "hour '*-5'"),
        (("", "*", "*", "*", "*"), "minute ''"),
        (("0", "0", "-1", "*", "*"), "day of the month '-1'"),
    ],
)
def test_what_celery_does_not_understand_is_refused_by_its_field(
    celery: tuple[str, str, str, str, str], field: str
) -> None:
    with pytest.raises(UnreadableCrontab) as caught:
        translated(*celery)
    assert str(caught.value) == f"{field} cannot be read"


def test_the_time_zone_is_kept_and_must_be_known() -> None:
    found = to_crontab(("0", "3", "*", "*", "*"), "Europe/Vienna")
    assert found == Crontab("0 3 * * *", "Europe/Vienna")
    assert str(found) == "0 3 * * * Europe/Vienna"
    with pytest.raises(UnreadableCrontab, match="time zone 'Nowhere/Land' is not known"):
        to_crontab(("0", "3", "*", "*", "*"), "Nowhere/Land")


@pytest.mark.parametrize(
    ("line", "timezone", "kept"),
    [
        ("*/5 * * * *", "Europe/Vienna", "UTC"),
        ("0 * * * *", "Europe/Vienna", "UTC"),
        ("0 * * * *", "Asia/Kolkata", "Asia/Kolkata"),
        ("0 */2 * * *", "Europe/Vienna", "Europe/Vienna"),
        ("*/5 * * * mon", "Europe/Vienna", "Europe/Vienna"),
        ("0 3 * * *", "Europe/Vienna", "Europe/Vienna"),
    ],
)
def test_a_line_of_every_hour_is_in_utc_where_clocks_that_are_set_back_make_no_gap(
    line: str, timezone: str, kept: str
) -> None:
    minute, hour, day, month, weekday = line.split()
    assert to_crontab((minute, hour, day, month, weekday), timezone).timezone == kept
