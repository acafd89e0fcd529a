"""Celery's crontab lines as cron lines.

They differ in four points. Celery lets ranges wrap around (`22-4`, `fri-mon`), accepts full names
of days and months, has no 7 for Sunday, and when both the day of the month and the day of the week
are restricted, requires both to match, where cron requires only one.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from maintenance.errors import MaintenanceError

DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
NAME_LETTERS = 3
UTC = "UTC"
HOUR = timedelta(hours=1)
YEAR = 2026
"""Any year: what counts is the difference of a zone's winter and summer from UTC."""
PART = re.compile(r"(?P<first>\*|\w+)(-(?P<last>\w+))?(/(?P<step>[0-9]+))?")


class UnreadableCrontab(MaintenanceError):
    """Celery would refuse this line; the text names the field."""


@dataclass(frozen=True)
class Crontab:
    """When a task is due.

    Attributes:
        cron: five fields, in the order of cron.
        timezone: their time zone.
        day_or: whether one matching day is enough when both kinds are restricted, as in cron.
    """

    cron: str
    timezone: str
    day_or: bool = True

    def __str__(self) -> str:
        """Return it for a table."""
        return f"{self.cron} {self.timezone}" + ("" if self.day_or else ", days of both kinds")


@dataclass(frozen=True)
class Field:
    """One field of a line: its name, its smallest and largest number, and names for numbers."""

    name: str
    smallest: int
    largest: int
    names: tuple[str, ...] = ()

    def translate(self, text: str) -> str:
        """Return the field for cron: unchanged, or as a list of numbers.

        Raises:
            UnreadableCrontab: Celery would refuse it.
        """
        parts = [self._part(part.strip()) for part in text.split(",")]
        return ",".join(parts)

    def _part(self, text: str) -> str:
        found = PART.fullmatch(text)
        if not found:
            raise self._unreadable(text)
        first, last, step = found["first"], found["last"], found["step"]
        if step is not None and int(step) == 0:
            raise self._unreadable(text)
        if first == "*":
            if last is not None:
                raise self._unreadable(text)
            return text if step is None else f"*/{int(step)}"
        start = self._number(first)
        if last is None:
            if step is not None:
                raise self._unreadable(text)
            return str(start)
        end = self._number(last)
        if end >= start:
            return f"{start}-{end}" + ("" if step is None else f"/{int(step)}")
        around = [*range(start, self.largest + 1), *range(self.smallest, end + 1)]
        return ",".join(map(str, sorted(around[:: int(step or 1)])))

    def numbers(self, translated: str) -> list[int]:
        """Return the numbers that a translated field stands for, in ascending order."""
        found: set[int] = set()
        for part in translated.split(","):
            span, _, step = part.partition("/")
            first, _, last = span.partition("-")
            start = self.smallest if first == "*" else int(first)
            end = self.largest if first == "*" else int(last or first)
            found.update(range(start, end + 1, int(step or 1)))
        return sorted(found)

    def _number(self, text: str) -> int:
        if text.isdecimal() and self.smallest <= int(text) <= self.largest:
            return int(text)
        short = text[:NAME_LETTERS].lower()
        if short in self.names:
            return self.names.index(short) + self.smallest
        raise self._unreadable(text)

    def _unreadable(self, text: str) -> UnreadableCrontab:
        return UnreadableCrontab(f"{self.name} {text[:40]!r} cannot be read")


FIELDS = (
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of the month", 1, 31),
    Field("month", 1, 12, MONTHS),
    Field("day of the week", 0, 6, DAYS),
)


def to_crontab(fields: tuple[str, str, str, str, str], timezone: str) -> Crontab:
    """Translate Celery's fields, in the order of cron.

    Raises:
        UnreadableCrontab: a field or the time zone is invalid.
    """
    translated = [field.translate(text) for field, text in zip(FIELDS, fields, strict=True)]
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnreadableCrontab(f"time zone {timezone[:40]!r} is not known") from None
    _, _, day, _, weekday = translated
    zone = UTC if _starts_each_hour(translated) and _whole_hours(timezone) else timezone
    return Crontab(" ".join(translated), zone, day_or="*" in (day, weekday))


def _starts_each_hour(fields: list[str]) -> bool:
    """Return whether a line is due in every hour, so that it means the same in UTC.

    In a zone that sets its clocks back, Prefect would start nothing in the hour that comes twice.
    """
    return set(fields[1:]) == {"*"}


def _whole_hours(timezone: str) -> bool:
    """Return whether a zone is whole hours from UTC, in winter and in summer."""
    zone = ZoneInfo(timezone)
    offsets = [datetime(YEAR, month, 1, tzinfo=zone).utcoffset() for month in (1, 7)]
    return all(one is not None and not one % HOUR for one in offsets)
