"""The identity of the application, which its storage roots are marked with (SPEC 10.1)."""

import hashlib

from sqlalchemy import Connection, text

from maintenance.errors import StorageError

FIRST_MIGRATION = text(
    "SELECT CAST(id AS text), app, name,"
    " to_char(applied AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
    " FROM django_migrations ORDER BY id LIMIT 1"
)


def application_id(connection: Connection) -> str:
    """Return the identity of the application: a hash of its first row of `django_migrations`.

    Every Django application has this row; no two installations applied their first migration in
    the same microsecond. A dump and a restore keep it, unlike the system identifier of the server.
    A copy of a database has the identity of the original.

    Raises:
        StorageError: no migration was ever applied.
        DBAPIError: the statement failed.
    """
    row = connection.execute(FIRST_MIGRATION).first()
    if row is None:
        message = (
            "django_migrations is empty, so the application cannot be identified: is this database"
            " that of Validibot?"
        )
        raise StorageError(message)
    return hashlib.sha256("\0".join(str(value) for value in row).encode()).hexdigest()
