"""The errors of this project. Their texts are written for the operator who reads them in a run."""

from maintenance.outside_text import visible


class MaintenanceError(Exception):
    """Base of every error that is raised on purpose."""

    def __str__(self) -> str:
        """Return the text, in which names from outside cannot control a terminal or a log."""
        return visible(super().__str__())


class SettingsError(MaintenanceError):
    """A setting has a wrong value; the text names the variable and what is allowed."""


class ParameterError(MaintenanceError, ValueError):
    """A parameter of a run is not allowed; nothing was touched."""


class RestoredDatabase(MaintenanceError):
    """The database is older than what the last run saw: it was restored; nothing was touched."""


class SchemaMismatch(MaintenanceError):
    """The database lacks tables or columns that the job uses; nothing was touched."""


class StorageError(MaintenanceError):
    """The storage as a whole cannot be used (a missing root, a backend that is not installed)."""


class TransientStorageError(StorageError):
    """The storage service does not answer, or answers 5xx or 429: worth a retry."""


class ContainerError(MaintenanceError):
    """The container engine refuses a request, or cannot be used as it is configured."""


class EngineNotConfigured(ContainerError):
    """This deployment of Validibot has no container engine, so there is nothing to do."""


class EngineUnavailable(ContainerError):
    """The container engine does not answer, or answers 5xx or 429: worth a retry."""


class UnsafeKey(MaintenanceError):
    """A file name that leaves its storage root, or names a file that is never deleted."""


class GuardLost(MaintenanceError):
    """The connection that holds the job's lock is gone, so another run may have started."""


class DatabaseError(MaintenanceError):
    """A statement failed. The text is the server's primary message, without row contents."""


class SharedSession(DatabaseError):
    """A connection pooler shares database sessions among its clients: no lock can be held."""

    def __init__(self, mode: str) -> None:
        """Say in which mode the pooler works, and what to do."""
        super().__init__(
            f"a connection pooler in {mode} mode shares database sessions among its clients, so"
            " that no lock can be held: set DATABASE_URL (or POSTGRES_HOST and POSTGRES_PORT) to"
            " the PostgreSQL server itself, or to a pool in session mode"
        )


class TransientDatabaseError(DatabaseError):
    """A statement failed for a passing reason: connection, time-out, deadlock, restart."""


class LockTimeout(TransientDatabaseError):
    """Another session held a lock for longer than the lock time-out."""


class StatementTimeout(TransientDatabaseError):
    """A statement exceeded its time-out: because of one row, or because the server is slow."""


class RowRefused(DatabaseError):
    """The database refused a row (a constraint, a trigger): that row's failure, not the run's.

    Which errors are a row's is said in `maintenance.transient`.
    """
