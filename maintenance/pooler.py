"""Detection of a connection pooler that shares one database session among clients (SPEC 10.6).

In transaction or statement mode a pooler hands a session to another client after each transaction.
The advisory lock of the guard would stay on a session that is not ours, and would neither keep
other runs out nor be released. A pooler in session mode is fine.
"""

from collections.abc import Callable

from psycopg import Connection as DriverConnection

from maintenance.errors import SharedSession

ROUNDS = 3
"""A pooler that takes its sessions in turn may give us the same one twice by chance."""


def backend_pid(connection: DriverConnection) -> int:
    """Return the server process that answers a connection now."""
    row = connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchone()
    return int(row[0]) if row else 0


def refuse_shared_session(
    connection: DriverConnection, connect: Callable[[], DriverConnection]
) -> None:
    """Make sure that one server process answers a connection, and no other client's.

    Args:
        connection: in autocommit mode, outside a transaction.
        connect: opens another connection of the same kind.

    Raises:
        SharedSession: a pooler hands the session to others.
        psycopg.Error: the database did not answer, or refused.
    """
    ours = backend_pid(connection)
    # A pooler makes up the process number of the start-up packet, in session mode too.
    rounds = 1 if ours == connection.pgconn.backend_pid else ROUNDS
    with connect() as other:
        for _ in range(rounds):
            with other.transaction():
                # While this transaction is open, no other client gets its session.
                shared = backend_pid(other) == ours or backend_pid(connection) != ours
            # Twice: a pooler that takes its sessions in turn now has another one in front.
            if shared or any(backend_pid(connection) != ours for _ in range(2)):
                raise SharedSession("transaction")
