"""Refused connections: which are worth a retry, and their error messages."""

import os
import re
import signal
import socket
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL

from demo.embedded import EmbeddedServer, embedded_server
from maintenance.database import dispose_engines, engine_for, transaction
from maintenance.errors import DatabaseError, TransientDatabaseError
from maintenance.guard import guard
from maintenance.settings import Settings, load_settings
from maintenance.transient import is_transient
from tests.support.memory import temporary_folder

PASSWORD = "s3cr3t-right"
WRONG = "s3cr3t-wrong"
JOB = "clear-sessions"

RULES = """
local all postgres trust
local all alice scram-sha-256
local all mallory reject
local all limited trust
local all sleeper trust
"""


@pytest.fixture(scope="module")
def strict_server() -> Iterator[EmbeddedServer]:
    """A server with password authentication."""
    with temporary_folder() as directory:
        data = Path(directory) / "pg"
        with (
            embedded_server(data, {"fsync": "off"}) as server,
            psycopg.connect(address(server.url("postgres"))) as connection,
        ):
            for role in ("alice", "mallory", "limited CONNECTION LIMIT 0", "stranger"):
                connection.execute(f"CREATE ROLE {role} LOGIN".encode())
            connection.execute(f"ALTER ROLE alice PASSWORD '{PASSWORD}'".encode())
            connection.execute("CREATE ROLE sleeper NOLOGIN")
        (data / "pg_hba.conf").write_text(RULES)
        with embedded_server(data, {"fsync": "off"}) as server:
            yield server


@pytest.fixture(autouse=True)
def forget_engines() -> Iterator[None]:
    yield
    dispose_engines()


def address(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def at_port(port: int) -> URL:
    return URL.create("postgresql", "alice", PASSWORD, "127.0.0.1", port, "v")


def settings_for(url: URL) -> Settings:
    return load_settings(DATABASE_URL=address(url), MAINTENANCE_CONNECT_TIMEOUT_SECONDS=2)


def refusal(url: URL) -> DatabaseError:
    """The error of a job's connection; the guard's is the same."""
    settings = settings_for(url)
    with pytest.raises(DatabaseError) as caught, transaction(engine_for(settings, JOB)):
        pytest.fail("connected")
    with pytest.raises(DatabaseError) as of_guard, guard(settings, JOB, None):
        pytest.fail("connected")
    assert type(of_guard.value) is type(caught.value)
    assert "\n" not in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in shown
    assert WRONG not in shown
    return caught.value


@pytest.mark.parametrize(
    ("user", "password", "database", "message"),
    [
        ("alice", WRONG, "postgres", 'password authentication failed for user "alice"'),
        ("alice", None, "postgres", "no password supplied"),
        ("nobody", WRONG, "postgres", 'no pg_hba.conf entry for host "[local]", user "nobody"'),
        ("stranger", WRONG, "postgres", "no pg_hba.conf entry"),
        ("mallory", WRONG, "postgres", "pg_hba.conf rejects connection"),
        ("alice", PASSWORD, "nowhere", 'database "nowhere" does not exist'),
        ("sleeper", WRONG, "postgres", 'role "sleeper" is not permitted to log in'),
    ],
)
def test_a_refusal_that_will_be_the_same_next_time_fails_at_once(
    strict_server: EmbeddedServer, user: str, password: str | None, database: str, message: str
) -> None:
    error = refusal(strict_server.url(database).set(username=user, password=password or ""))
    assert type(error) is DatabaseError
    assert not is_transient(error)
    assert message in str(error)


def test_an_unknown_role_fails_at_once(server: EmbeddedServer) -> None:
    error = refusal(server.url("postgres").set(username="nobody", password=WRONG))
    assert type(error) is DatabaseError
    assert 'role "nobody" does not exist' in str(error)


def test_a_database_without_the_right_to_connect_fails_at_once(server: EmbeddedServer) -> None:
    url = server.create_database("closed")
    with psycopg.connect(address(server.url("postgres")), autocommit=True) as connection:
        connection.execute("REVOKE CONNECT ON DATABASE closed FROM public")
        connection.execute("CREATE ROLE outsider LOGIN")
    error = refusal(url.set(username="outsider"))
    assert type(error) is DatabaseError
    assert 'permission denied for database "closed"' in str(error)


def test_the_right_password_is_accepted(strict_server: EmbeddedServer) -> None:
    """The other side of the refusals above."""
    url = strict_server.url("postgres").set(username="alice", password=PASSWORD)
    with transaction(engine_for(settings_for(url), JOB)) as connection:
        assert connection.engine.url.username == "alice"


def test_too_many_connections_are_transient(strict_server: EmbeddedServer) -> None:
    error = refusal(strict_server.url("postgres").set(username="limited", password=WRONG))
    assert type(error) is TransientDatabaseError
    assert 'too many connections for role "limited"' in str(error)


def test_a_closed_port_is_transient() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        error = refusal(at_port(bound.getsockname()[1]))
    assert type(error) is TransientDatabaseError
    assert is_transient(error)
    assert "Connection refused" in str(error)


def test_an_absent_socket_is_transient(tmp_path: Path) -> None:
    url = URL.create("postgresql", "alice", PASSWORD, None, None, "v", {"host": str(tmp_path)})
    error = refusal(url)
    assert type(error) is TransientDatabaseError
    assert "No such file or directory" in str(error)


def test_a_server_that_does_not_answer_is_transient() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        error = refusal(at_port(silent.getsockname()[1]))
    assert type(error) is TransientDatabaseError
    assert re.match(r"ConnectionTimeout: .*timeout expired", str(error))


def test_a_server_that_is_shutting_down_is_transient() -> None:
    with temporary_folder() as directory, ExitStack() as sessions:
        data = Path(directory) / "pg"
        with embedded_server(data, {"fsync": "off"}) as server:
            url = server.url("postgres")
            # Closed last: the block ends a server that is still there.
            sessions.enter_context(closing(psycopg.connect(address(url))))
            # A shutdown that waits for the open session and refuses new ones.
            os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGTERM)
            error = refusal(url)
    assert type(error) is TransientDatabaseError
    assert "the database system is shutting down" in str(error)
