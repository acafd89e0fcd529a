"""When a task of Beat is due: computed with Celery's rules, without Celery."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from maintenance.beat.crontab import FIELDS, Crontab

LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""How many days each month has in a leap year."""
DAY = timedelta(days=1)


def never_due(crontab: Crontab) -> bool:
    """Return whether no date matches, as with 30 February.

    Celery wants the day of the month, the month and the day of the week to match. Each date that
    exists falls on every day of the week sooner or later.
    """
    _, _, days, months, _ = _numbers(crontab)
    return not any(day <= LONGEST_MONTHS[month - 1] for month in months for day in days)


def windows_between(crontab: Crontab, since: datetime, until: datetime, most: int) -> int:
    """Count the times after `since` and up to `until` at which a task is due; at most `most`."""
    return sum(1 for _ in islice(_windows(crontab, since, until), most))


def _windows(crontab: Crontab, since: datetime, until: datetime) -> Iterator[datetime]:
    minutes, hours, days, months, weekdays = _numbers(crontab)
    zone = ZoneInfo(crontab.timezone)
    day, last = since.astimezone(zone).date(), until.astimezone(zone).date()
    while day <= last:
        # Celery counts from Sunday, 0.
        if day.month in months and day.day in days and day.isoweekday() % 7 in weekdays:
            for hour in hours:
                for minute in minutes:
                    local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
                    moment = local.astimezone(UTC)
                    if since < moment <= until:
                        yield moment
        day += DAY


def _numbers(crontab: Crontab) -> list[list[int]]:
    parts = zip(FIELDS, crontab.cron.split(), strict=True)
    return [field.numbers(part) for field, part in parts]
