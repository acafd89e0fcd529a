"""Which errors pass by themselves and are worth another attempt (SPEC 2.9).

One function decides for the whole project, so that a class of error is added in one place.
Everything that is not listed here fails at once.
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
# Data exceptions, integrity violations, a check option, RAISE in a trigger: one row's fault.
ROW_CLASSES = ("22", "23", "44", "P0")
# A data exception's message may quote the value that it is about.
DATA_EXCEPTION = "22"

# A refused connection carries no SQLSTATE, only text. These are the answers of a server, a pooler
# or the client library that will be the same next time. Any other one (nobody listens, starting
# up, shutting down, too many connections, words in another language) is worth another attempt.
PERMANENT_REFUSALS = re.compile(
    r"password authentication failed|authentication failed for user|no password supplied"
    r"|SASL authentication failed|no pg_hba\.conf entry|pg_hba\.conf rejects"
    r"|(role|database|user) \"[^\"]*\" does not exist|no such (user|database)"
    r"|is not permitted to log in|permission denied for database"
    r"|unrecognized configuration parameter|invalid (port number|integer value)"
    r"|does not support SSL|certificate verify failed|does not match host name"
)


def is_transient(error: BaseException) -> bool:
    """Return whether the same work may succeed when it is tried again."""
    if isinstance(error, (TransientDatabaseError, TransientStorageError, EngineUnavailable)):
        return True
    if isinstance(error, DBAPIError):
        return isinstance(translate(error), TransientDatabaseError)
    return isinstance(error, (ConnectionError, TimeoutError)) and not isinstance(
        error, MaintenanceError
    )


def translate(error: DBAPIError) -> DatabaseError:
    """Turn a driver's error into ours, without the DETAIL line, which quotes row contents."""
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
    """Return the cause in one line, without values of rows."""
    diagnostics = getattr(error.orig, "diag", None)
    primary: str | None = getattr(diagnostics, "message_primary", None)
    if primary and state.startswith(DATA_EXCEPTION):
        primary = re.sub(r'".*"', '"..."', primary, flags=re.DOTALL)
    if not primary and _of_connection(error):
        # The client library's words name host, user and database, never the password.
        primary = str(error.orig)
    return " ".join((primary or "refused by the driver").split())


def _of_connection(error: DBAPIError) -> bool:
    return isinstance(error, (OperationalError, InterfaceError))
