"""Which errors are transient and worth a retry (SPEC 2.9).

One function decides for the whole project. Every error that is not listed here fails at once.
"""

import re

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from maintenance.errors import (
    DatabaseError,
    EngineUnavailable,
    LockTimeout,
    MaintenanceError,
    RowRefused,
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


def is_transient(error: BaseException) -> bool:
    """Return whether the same work may succeed at a retry."""
    if isinstance(error, (TransientDatabaseError, TransientStorageError, EngineUnavailable)):
        return True
    if isinstance(error, DBAPIError):
        return isinstance(translate(error), TransientDatabaseError)
    return isinstance(error, (ConnectionError, TimeoutError)) and not isinstance(
        error, MaintenanceError
    )


def translate(error: DBAPIError) -> DatabaseError:
    """Turn a driver's error into a DatabaseError without the DETAIL line, which quotes rows."""
    state = getattr(error.orig, "sqlstate", None) or ""
    text = f"{type(error.orig).__name__}: {_cause(error, state)}"
    if state == LOCK_NOT_AVAILABLE:
        return LockTimeout(text)
    if state == QUERY_CANCELED:
        return StatementTimeout(text)
    if state.startswith(ROW_CLASSES):
        return RowRefused(text)
    lost = not state and _of_connection(error)
    if lost and PERMANENT_REFUSALS.search(text):
        return DatabaseError(text)
    if lost or state.startswith(TRANSIENT_CLASSES) or state in TRANSIENT_STATES:
        return TransientDatabaseError(text)
    return DatabaseError(text)


def _cause(error: DBAPIError, state: str) -> str:
    """Return the cause in one line, without row contents."""
    diagnostics = getattr(error.orig, "diag", None)
    primary: str | None = getattr(diagnostics, "message_primary", None)
    if primary and state.startswith(DATA_EXCEPTION):
        primary = re.sub(r'".*"', '"..."', primary, flags=re.DOTALL)
    if not primary and _of_connection(error):
        # The client library's message names host, user and database, but never the password.
        primary = str(error.orig)
    return " ".join((primary or "refused by the driver").split())


def _of_connection(error: DBAPIError) -> bool:
    return isinstance(error, (OperationalError, InterfaceError))
