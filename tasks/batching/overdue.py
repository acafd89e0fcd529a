"""Counting overdue rows, with the age of the oldest."""

from datetime import datetime

from sqlalchemy import Select

from maintenance.cutoff import Cutoff
from maintenance.database import engine_for, transaction
from maintenance.report import Overdue
from maintenance.settings import settings


def count_overdue_rows(query: Select[int, datetime | None], cutoff: Cutoff, job: str) -> Overdue:
    """Run a query for the number of rows and their earliest deadline, in a READ ONLY transaction.

    Raises:
        DatabaseError: the statement failed.
    """
    with transaction(engine_for(settings(), job), read_only=True) as connection:
        rows, oldest = connection.execute(query).one()
    age = (cutoff.started_at - oldest).total_seconds() if oldest else None
    return Overdue(rows=rows, oldest_age_seconds=age)
