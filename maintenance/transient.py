"""Which errors are transient and worth a retry (SPEC 2.9).

One function decides for the whole project. Every error that is not listed here fails at once.
"""

import re

import psycopg
from sqlalchemy.exc import DBAPIError

from maintenance.errors import (
    DatabaseError,
    EngineUnavailable,
    LockTimeout,
    MaintenanceError,
    RowRefused,
    SharedSession,
    StatementTimeout,
    TransientDatabaseError,
    TransientStorageError,
)

# SQLSTATE prefixes: connection exceptions, insufficient resources (connections, disk, memory),
# operator intervention (shutdown, statement time-out) and system errors.
TRANSIENT_CLASSES = ("08", "53", "57", "58")
# Serialization failure, deadlock, transaction or idle-in-transaction time-out.
TRANSIENT_STATES = frozenset({"40001", "40P01", "25P03", "25P04"})
LOCK_NOT_AVAILABLE = "55P03"
QUERY_CANCELED = "57014"
# Data exceptions, integrity violations, a check option, RAISE in a trigger: one row's failure.
ROW_CLASSES = ("22", "23", "44", "P0")
# The message of a data exception may quote the value.
DATA_EXCEPTION = "22"

# A refused connection carries no SQLSTATE, only text. These answers of a server, a pooler or the
# client library are permanent. Any other one (connection refused, starting up, shutting down, too
# many connections, a message in another language) is worth a retry.
PERMANENT_REFUSALS = re.compile(
    r"password authentication failed|authentication failed for user|no password supplied"
    r"|SASL authentication failed|no pg_hba\.conf entry|pg_hba\.conf rejects"
    r"|(role|database|user) \"[^\"]*\" does not exist|no such (user|database)"
    r"|is not permitted to log in|permission denied for database"
    r"|unrecognized configuration parameter|invalid (port number|integer value)"
    r"|does not support SSL|certificate verify failed|does not match host name"
)


STATEMENT_POOLING = "not allowed in statement pooling mode"
CHANGED_PLAN = "RevalidateCachedQuery"
"""The server's function that raises "cached plan must not change result type", in any language:
a table was altered, and the same statement works again."""


def is_transient(error: BaseException) -> bool:
    """Return whether the same work may succeed at a retry."""
    if isinstance(error, (TransientDatabaseError, TransientStorageError, EngineUnavailable)):
        return True
    if isinstance(error, (DBAPIError, psycopg.Error)):
        return isinstance(translate(error), TransientDatabaseError)
    return isinstance(error, (ConnectionError, TimeoutError)) and not isinstance(
        error, MaintenanceError
    )


def translate(error: DBAPIError | psycopg.Error) -> DatabaseError:
    """Turn a driver's error into ours, without the DETAIL line, which quotes row contents."""
    orig = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(orig, "sqlstate", None) or ""
    text = f"{type(orig).__name__}: {_cause(orig, state)}"
    if STATEMENT_POOLING in text:
        return SharedSession("statement")
    if state == LOCK_NOT_AVAILABLE:
        return LockTimeout(text)
    if state == QUERY_CANCELED:
        return StatementTimeout(text)
    if state.startswith(ROW_CLASSES):
        return RowRefused(text)
    lost = not state and _of_connection(orig)
    if not (lost and PERMANENT_REFUSALS.search(text)) and _passes(orig, state, lost=lost):
        return TransientDatabaseError(text)
    return DatabaseError(text)


def _passes(error: BaseException | None, state: str, *, lost: bool) -> bool:
    changed_plan = getattr(getattr(error, "diag", None), "source_function", None) == CHANGED_PLAN
    listed = state.startswith(TRANSIENT_CLASSES) or state in TRANSIENT_STATES
    return lost or changed_plan or listed


def _cause(error: BaseException | None, state: str) -> str:
    """Return the cause in one line, without values of rows."""
    diagnostics = getattr(error, "diag", None)
    primary: str | None = getattr(diagnostics, "message_primary", None)
    if primary and state.startswith(DATA_EXCEPTION):
        primary = re.sub(r'".*"', '"..."', primary, flags=re.DOTALL)
    if not primary and _of_connection(error):
        # The client library's words name host, user and database, never the password.
        primary = str(error)
    return " ".join((primary or "refused by the driver").split())


def _of_connection(error: BaseException | None) -> bool:
    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
