"""What is deleted by age alone, as a table (SPEC 7). Another such table is one entry and a test."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Column, Table

from maintenance.schema import sessions


@dataclass(frozen=True)
class ExpiringTable:
    """A table whose rows go when their time is before the cutoff; equal stays.

    Attributes:
        table: where rows are deleted.
        time: the column that is compared; it needs an index.
        age: how much older than `as_of` a row must be.
    """

    table: Table
    time: Column[datetime]
    age: timedelta = timedelta(0)


SESSIONS = ExpiringTable(sessions, sessions.c.expire_date)
"""Django's sessions; `expire_date` before the cutoff."""
