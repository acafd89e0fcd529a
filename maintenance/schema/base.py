"""The metadata, and the kinds of column, key and index that the tables are made of.

No column has a database default except identity keys, and every foreign key is deferred with NO
ACTION: an INSERT supplies every value, and a parent's DELETE is preceded by that of its children.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY, INET, JSONB

metadata = MetaData()
"""All tables of all known versions."""

SINCE = "since"
UNTIL = "until"
REFERS_TO = "refers to"

T = TypeVar("T")


class Version(StrEnum):
    """The versions of Validibot whose tables are known, in their order."""

    V0_14 = "0.14"
    V0_16 = "0.16"


OLDEST, NEWEST = Version.V0_14, Version.V0_16


def since(version: Version, column: Column[T]) -> Column[T]:
    """Mark a column that older versions do not have (`maintenance/schema/versions.py`)."""
    column.info[SINCE] = version
    return column


def until(version: Version, column: Column[T]) -> Column[T]:
    """Mark a column that a version and newer ones do not have."""
    column.info[UNTIL] = version
    return column


def refers_to(table: str, column: Column[T]) -> Column[T]:
    """Note that a column refers to a table that no job uses, for which there is no key here."""
    column.info[REFERS_TO] = table
    return column


def identity_key() -> Column[int]:
    """Make the primary key `id`, numbered by the database."""
    return Column("id", BigInteger, Identity(always=False), primary_key=True)


def uuid(name: str, *, primary_key: bool = False, nullable: bool = False) -> Column[UUID]:
    """Make a UUID column."""
    return Column(name, Uuid, primary_key=primary_key, nullable=nullable)


def moment(name: str, *, nullable: bool = False) -> Column[datetime]:
    """Make a column for a time with its zone."""
    return Column(name, DateTime(timezone=True), nullable=nullable)


def varchar(
    name: str, length: int, *, primary_key: bool = False, nullable: bool = False
) -> Column[str]:
    """Make a column for text of limited length."""
    return Column(name, String(length), primary_key=primary_key, nullable=nullable)


def varchars(name: str) -> Column[Any]:
    """Make a column for an array of texts."""
    return Column(name, ARRAY(String), nullable=False)


def long_text(name: str, *, nullable: bool = False) -> Column[str]:
    """Make a column for text of any length."""
    return Column(name, Text, nullable=nullable)


def smallint(name: str, *, nullable: bool = False) -> Column[int]:
    """Make a column for a number of two bytes."""
    return Column(name, SmallInteger, nullable=nullable)


def integer(name: str, *, nullable: bool = False) -> Column[int]:
    """Make a column for a number of four bytes."""
    return Column(name, Integer, nullable=nullable)


def bigint(name: str, *, nullable: bool = False) -> Column[int]:
    """Make a column for a number of eight bytes."""
    return Column(name, BigInteger, nullable=nullable)


def boolean(name: str) -> Column[bool]:
    """Make a boolean column."""
    return Column(name, Boolean, nullable=False)


def inet(name: str, *, nullable: bool = False) -> Column[Any]:
    """Make a column for a network address."""
    return Column(name, INET, nullable=nullable)


def jsonb(name: str, *, nullable: bool = False) -> Column[Any]:
    """Make a JSON column.

    None is stored as SQL's NULL, never as the JSON value null, as a purge requires.
    """
    return Column(name, JSONB(none_as_null=True), nullable=nullable)


def reference(
    column: str, target: str, name: str, *, use_alter: bool = False
) -> ForeignKeyConstraint:
    """Make a foreign key that is checked at commit and never cascades."""
    return ForeignKeyConstraint(
        [column], [target], name=name, deferrable=True, initially="DEFERRED", use_alter=use_alter
    )


def pattern_index(name: str, column: str) -> Index:
    """Make the second index of a text column, for LIKE with a fixed prefix."""
    return Index(name, column, postgresql_ops={column: "varchar_pattern_ops"})


def one_of(column: str, values: Iterable[str]) -> str:
    """Return the SQL condition that a column holds one of the literals."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"
