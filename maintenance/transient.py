"""Which errors of the database are transient, a row's, or the run's (SPEC 2.9, 10.7).

One function decides for the whole project, by these rules, in this order:

1. RAISE in a trigger, with whatever SQLSTATE: the row's.
2. A lock or statement time-out: perhaps the row's, perhaps the server's. The batch is bisected;
   where there is no batch, the error is transient.
3. A lost connection, and the classes and states that `TRANSIENT_CLASSES` and `TRANSIENT_STATES`
   list: transient, the batch is repeated.
4. The classes of `STATEMENT_CLASSES`, unless a function reported the error: the run's. They do not
   depend on rows, so that the run ends at once.
5. Every other SQLSTATE, those of applications and extensions included: the row's. The batch is
   bisected. When no row of it is accepted, few are tried (`tasks.batching.bisection`), and the run
   ends after a number of them (`flows.run.refusals`).
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
# What our own statement is refused with whatever the rows hold: unsupported, not allowed in this
# transaction, by this role or in this database, a name or a syntax that the server does not know.
STATEMENT_CLASSES = ("0A", "24", "25", "26", "28", "2B", "2D", "34", "3B", "3D", "3F", "42")
RAISED = "exec_stmt_raise"
"""The server's function that carries out RAISE of PL/pgSQL, with any SQLSTATE that it names."""
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
    r"|definition of service .* not found|service file .* not found"
    r"|session is not read-only|server is not in hot standby mode"
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
    if _function(orig) == RAISED:
        return RowRefused(text)
    if state == LOCK_NOT_AVAILABLE:
        return LockTimeout(text)
    if state == QUERY_CANCELED:
        return StatementTimeout(text)
    lost = not state and _of_connection(orig)
    if not (lost and PERMANENT_REFUSALS.search(text)) and _passes(orig, state, lost=lost):
        return TransientDatabaseError(text)
    return RowRefused(text) if _of_row(orig, state) else DatabaseError(text)


def _passes(error: BaseException | None, state: str, *, lost: bool) -> bool:
    changed_plan = _function(error) == CHANGED_PLAN
    listed = state.startswith(TRANSIENT_CLASSES) or state in TRANSIENT_STATES
    return lost or changed_plan or listed


def _of_row(error: BaseException | None, state: str) -> bool:
    """Return whether an error that does not pass may be the fault of a row.

    An error of our own statement is, when a function raised it, which a trigger or a constraint
    has called: then the server says where (its CONTEXT). Every other error with an SQLSTATE is.
    """
    in_function = bool(getattr(getattr(error, "diag", None), "context", None))
    return bool(state) and (in_function or not state.startswith(STATEMENT_CLASSES))


def _function(error: BaseException | None) -> str | None:
    """Return the function of the server's source that reported an error."""
    name: str | None = getattr(getattr(error, "diag", None), "source_function", None)
    return name


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
