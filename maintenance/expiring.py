"""The tables whose rows are deleted by age (SPEC 7).

A further table needs an entry here, a flow that names it, its columns in maintenance/access.py, and
a test. `python -m flows --list` shows each entry beside its job.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, literal, select

from maintenance.errors import ParameterError
from maintenance.schema import (
    callback_receipts,
    continuations,
    idempotency_keys,
    runs,
    sessions,
)
from maintenance.schema.vocabulary import TERMINAL_RUN_STATUSES


@dataclass(frozen=True)
class ExpiringTable:
    """A table whose rows are deleted when their time is before the cutoff; an equal time stays.

    Rows are found by their time and deleted by their ctid, so no other column is read.

    Attributes:
        table: the table.
        time: the column that is compared; it needs an index.
        age: how much older than `as_of` a row must be, unless the run says otherwise.
        condition: a further condition of the DELETE.
        except_for: the condition in words: which rows stay regardless of their age.
        set_null: columns of other tables that refer to `id` here and are set to NULL with the
            DELETE, as Django does (SET_NULL). A version of Validibot may lack them.
    """

    table: Table
    time: Column[datetime]
    age: timedelta = timedelta(0)
    condition: ColumnElement[bool] | None = None
    except_for: str = ""
    set_null: tuple[Column[Any], ...] = ()

    def __str__(self) -> str:
        """Return in one line what is deleted."""
        since = f"{self.age.days} days ago" if self.age else "now"
        kept = f", except {self.except_for}" if self.except_for else ""
        return f"{self.table.name}: {self.time.name} before {since}{kept}"


IDEMPOTENCY_KEYS = ExpiringTable(idempotency_keys, idempotency_keys.c.expires_at)
"""Keys of API requests, whatever the status of the request."""

CALLBACK_RECEIPTS = ExpiringTable(
    callback_receipts,
    callback_receipts.c.received_at,
    age=timedelta(days=30),
    # Not SELECT *, which would need rights on every column of the run.
    condition=~select(literal(1))
    .where(
        runs.c.id == callback_receipts.c.validation_run_id,
        runs.c.status.not_in(TERMINAL_RUN_STATUSES),
    )
    .exists(),
    except_for="receipts of active runs",
    set_null=(continuations.c.callback_receipt_id,),
)
"""Replay protection of callbacks; an active run may still need its receipts."""

SESSIONS = ExpiringTable(sessions, sessions.c.expire_date)
"""Django's sessions."""

EXPIRING = (IDEMPOTENCY_KEYS, CALLBACK_RECEIPTS, SESSIONS)
"""Everything that is deleted by age."""


def whole_days(days: int, *, allow_recent: bool) -> timedelta:
    """Return an age in days (SPEC 2.10).

    Raises:
        ParameterError: it is negative, or below 1 without `allow_recent`.
    """
    if days < 0 or (days < 1 and not allow_recent):
        message = f"days={days}: must be at least 1, or 0 with allow_recent"
        raise ParameterError(message)
    return timedelta(days=days)
