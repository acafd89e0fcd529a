"""Values that PostgreSQL holds and Python does not (SPEC 10.7): odd times, and texts of any bytes.

Times: infinity, BC, and years after 9999. The driver refuses a row that holds such a time, and with
it the whole result. Here it is read as an `OddTime`: a datetime at the end of Python's range that
remembers the server's text. It is sent back as exactly that text, so that it serves as a keyset
cursor.

Texts: a database in SQL_ASCII holds any bytes. Those that are no UTF-8 are kept as surrogates, as
Python does with file names, and sent back as they were.
"""

import json
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self, overload

from psycopg import Connection as DriverConnection
from psycopg import DataError, postgres
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import set_json_loads
from psycopg.types.string import StrDumperUnknown, TextLoader

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
ENCODING, ERRORS = "utf-8", "surrogateescape"
TEXTS = ("text", "varchar", "bpchar", "name")


class OddTime(datetime):
    """A time outside Python's range, in its place before or after all other times.

    Adding a timedelta leaves it as it is. Two odd times on the same side are equal in Python.
    """

    text: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the time that the server writes as `text`, in ISO style and UTC."""
        end = FIRST if text == "-infinity" or text.endswith("BC") else LAST
        made = cls.combine(end.date(), end.timetz())
        made.text = text
        return made

    def __add__(self, _other: timedelta) -> Self:
        """Return the same time."""
        return self

    __radd__ = __add__

    @overload  # type: ignore[override]
    def __sub__(self, other: datetime) -> timedelta: ...

    @overload
    def __sub__(self, other: timedelta) -> Self: ...

    def __sub__(self, other: datetime | timedelta) -> Self | timedelta:
        """Return the same time, or the distance of the end of Python's range."""
        return self if isinstance(other, timedelta) else clamped(self) - clamped(other)

    def __rsub__(self, other: datetime) -> timedelta:
        """Return the distance from the end of Python's range."""
        return clamped(other) - clamped(self)

    def astimezone(self, _tz: tzinfo | None = None) -> Self:
        """Return the same time."""
        return self

    def isoformat(self, *_args: object, **_keywords: object) -> str:
        """Return the server's text."""
        return self.text

    def __str__(self) -> str:
        """Return the server's text."""
        return self.text

    def __format__(self, _specification: str) -> str:
        """Return the server's text."""
        return self.text

    def __reduce_ex__(self, _protocol: object) -> tuple[Any, ...]:
        """Keep the text in copies."""
        return type(self).of, (self.text,)


def clamped(moment: datetime) -> datetime:
    """Return a plain datetime: the end of Python's range for an odd time."""
    if not isinstance(moment, OddTime):
        return moment
    return FIRST if moment.year == FIRST.year else LAST


def later(moment: datetime, span: timedelta) -> datetime:
    """Return `moment` plus `span`, which may be negative; at most the end of Python's range."""
    try:
        return moment + span
    except OverflowError:
        return LAST if span > timedelta(0) else FIRST


def adapt(connection: DriverConnection) -> None:
    """Let a connection, whose encoding is UTF-8, read and write these values."""
    adapters = connection.adapters
    adapters.register_loader("timestamptz", _TimeLoader)
    adapters.register_dumper(OddTime, _TimeDumper)
    for name in TEXTS:
        adapters.register_loader(name, _TextLoader)
    adapters.register_dumper(str, _TextDumper)
    set_json_loads(_load_json, connection)


class _TimeLoader(TimestamptzLoader):
    def load(self, data: Buffer) -> datetime:
        match = self._re_format.match(data)
        if match and len(match[1]) <= len("9999"):
            return super().load(data)
        return OddTime.of(bytes(data).decode())


class _TimeDumper(Dumper):
    oid = postgres.types["timestamptz"].oid

    def dump(self, obj: Any) -> bytes:  # noqa: ANN401 - an OddTime
        return str(obj.text).encode()


class _TextLoader(TextLoader):
    def load(self, data: Buffer) -> str:
        return bytes(data).decode(ENCODING, ERRORS)


class _TextDumper(StrDumperUnknown):
    def dump(self, obj: str) -> Buffer | None:
        if "\x00" in obj:
            raise DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return obj.encode(ENCODING, ERRORS)


def _load_json(data: str | bytes) -> Any:  # noqa: ANN401 - any JSON value
    return json.loads(data if isinstance(data, str) else bytes(data).decode(ENCODING, ERRORS))
