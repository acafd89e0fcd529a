"""Random values and times; the same seed gives the same values."""

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar, overload

T = TypeVar("T")

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# A random UUID is 128 random bits with these six taken by the version and the variant.
UUID_FIXED_BITS = 0xF000 << 64 | 0xC000 << 48
UUID_VERSION_4 = 0x4000 << 64 | 0x8000 << 48


class Draw:
    """A seeded source of numbers, choices and identifiers."""

    def __init__(self, seed: int) -> None:
        source = random.Random(seed)
        self._fraction = source.random
        self._bits = source.getrandbits

    def happens(self, share: float) -> bool:
        """Return True with this probability."""
        return self._fraction() < share

    def between(self, least: int, most: int) -> int:
        """Draw a whole number, both ends included."""
        return least + int(self._fraction() * (most - least + 1))

    def choose(self, options: Sequence[T]) -> T:
        """Draw one of the options, all with the same probability."""
        return options[int(self._fraction() * len(options))]

    def hexadecimal(self, digits: int) -> str:
        """Draw a number of hexadecimal digits."""
        return f"{self._bits(4 * digits):0{digits}x}"

    def identifier(self) -> str:
        """Draw a random UUID, as text."""
        bits = self._bits(128) & ~UUID_FIXED_BITS | UUID_VERSION_4
        text = f"{bits:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Quota:
    """Kinds with exact counts, drawn in random order."""

    def __init__(self, counts: Mapping[str, int], draw: Draw) -> None:
        self._left = dict(counts)
        self._total = sum(counts.values())
        self._draw = draw

    def take(self) -> str:
        """Draw a kind with the probability of its share of the remaining count."""
        place = self._draw.between(0, self._total - 1)
        for kind, left in self._left.items():
            if place < left:
                self._left[kind] -= 1
                self._total -= 1
                return kind
            place -= left
        raise LookupError("nothing is left to draw")


class Moments:
    """Times in whole seconds relative to one moment; negative is before it."""

    def __init__(self, as_of: datetime) -> None:
        if as_of.utcoffset() != timedelta(0):
            raise ValueError(f"as_of must be in UTC with its zone, not {as_of.isoformat()}")
        midnight = as_of.replace(hour=0, minute=0, second=0, microsecond=0)
        self._midnight = midnight
        self._since_midnight = (as_of - midnight) // timedelta(seconds=1)
        # Formatting times is the slowest part of making a row, so each day and each second of a
        # day is formatted once.
        self._days: dict[int, str] = {}
        fraction = f"{as_of:.%f}" if as_of.microsecond else ""
        self._clock = [
            f"{second // HOUR:02}:{second // MINUTE % 60:02}:{second % 60:02}{fraction}+00:00"
            for second in range(DAY)
        ]

    @overload
    def at(self, seconds: int) -> str: ...
    @overload
    def at(self, seconds: None) -> None: ...
    def at(self, seconds: int | None) -> str | None:
        """Return the moment as PostgreSQL reads it; None stays None."""
        if seconds is None:
            return None
        day, second = divmod(self._since_midnight + seconds, DAY)
        return f"{self._day(day)} {self._clock[second]}"

    def month(self, seconds: int) -> str:
        """Return the upload folder of the moment's month."""
        day = self._day((self._since_midnight + seconds) // DAY)
        return f"{day[:4]}/{day[5:7]}"

    def _day(self, day: int) -> str:
        if day not in self._days:
            self._days[day] = f"{self._midnight + timedelta(days=day):%Y-%m-%d}"
        return self._days[day]
