"""Beat's interval schedules."""

from datetime import timedelta

from maintenance.errors import MaintenanceError

SHORTEST = timedelta(minutes=1)
UNITS = ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute"))


class UnreadableInterval(MaintenanceError):
    """This interval cannot be imported; the text says why."""


def to_interval(every: int, period: str) -> timedelta:
    """Return an interval of `every` times a period: days, hours, minutes and so on.

    Raises:
        UnreadableInterval: the period is unknown, or the interval is too short or too long.
    """
    try:
        interval = timedelta(**{period: every})
    except (TypeError, OverflowError):
        raise UnreadableInterval(f"every {every} {period[:40]!r} cannot be read") from None
    if interval < SHORTEST:
        raise UnreadableInterval(
            f"every {interval.total_seconds():g} s is too often for such a job"
        )
    return interval


def describe(interval: timedelta) -> str:
    """Return an interval as text, in the largest unit that divides it: `every 15 minutes`."""
    for unit, name in UNITS:
        number, rest = divmod(interval, unit)
        if number and not rest:
            return f"every {name}" if number == 1 else f"every {number:,} {name}s"
    return f"every {interval.total_seconds():g} s"
