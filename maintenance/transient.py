"""Which errors pass by themselves and are worth another attempt (SPEC 2.9).

One function decides for the whole project, so that a class of error is added in one place.
Everything that is not listed here fails at once.
"""

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from maintenance.errors import (
    DatabaseError,
    LockTimeout,
    MaintenanceError,
    RowRefused,
    TransientDatabaseError,
)

# SQLSTATE prefixes: connection exceptions, insufficient resources (connections, disk, memory),
# operator intervention (shutdown, statement time-out) and system errors.
TRANSIENT_CLASSES = ("08", "53", "57", "58")
# Serialization failure, deadlock, transaction or idle-in-transaction time-out.
TRANSIENT_STATES = frozenset({"40001", "40P01", "25P03", "25P04"})
LOCK_NOT_AVAILABLE = "55P03"
# Data exceptions, integrity violations, a check option, RAISE in a trigger: one row's fault.
ROW_CLASSES = ("22", "23", "44", "P0")


def is_transient(error: BaseException) -> bool:
    """Return whether the same work may succeed when it is tried again."""
    if isinstance(error, TransientDatabaseError):
        return True
    if isinstance(error, DBAPIError):
        return isinstance(translate(error), TransientDatabaseError)
    return isinstance(error, (ConnectionError, TimeoutError)) and not isinstance(
        error, MaintenanceError
    )


def translate(error: DBAPIError) -> DatabaseError:
    """Turn a driver's error into ours, without the DETAIL line, which quotes row contents."""
    diagnostics = getattr(error.orig, "diag", None)
    state = getattr(error.orig, "sqlstate", None) or ""
    primary = getattr(diagnostics, "message_primary", None)
    name = type(error.orig).__name__
    text = f"{name}: {primary}" if primary else f"{name}: no answer from the database server"
    if state == LOCK_NOT_AVAILABLE:
        return LockTimeout(text)
    if state.startswith(ROW_CLASSES):
        return RowRefused(text)
    lost = not state and isinstance(error, (OperationalError, InterfaceError))
    if lost or state.startswith(TRANSIENT_CLASSES) or state in TRANSIENT_STATES:
        return TransientDatabaseError(text)
    return DatabaseError(text)
