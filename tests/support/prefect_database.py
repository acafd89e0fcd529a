"""A PostgreSQL for the Prefect server, as in production, from the system's own packages.

The embedded one has no pg_trgm, which Prefect's tables need. This one listens on a socket in a
folder of its own, on no port, and it can be stopped, killed and started again.
"""

import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from sqlalchemy import URL

from demo.environment import clean_environment
from demo.processes import Child, wait_until
from tests.support.memory import temporary_folder

EXTENSION = "pg_trgm"
DEBIAN = Path("/usr/lib/postgresql")
STAND_INS_OF_ROOT = ("postgres", "nobody")
"""PostgreSQL refuses to run as root."""
OWNER = NAME = "prefect"
SETTINGS = {"fsync": "off", "listen_addresses": "", "log_checkpoints": "off"}
"""Without fsync it survives a crash of its processes; only one of the machine could harm it."""
INITDB_SECONDS = 60
START_SECONDS = 30.0
STOP_SECONDS = 20.0


class NotAvailable(Exception):
    """There is no PostgreSQL that Prefect can use; the text says what to do."""


def binaries() -> Path:
    """Return the folder of the newest PostgreSQL that has the extension.

    Raises:
        NotAvailable: there is none.
    """
    found = [path.parent for path in DEBIAN.glob("*/bin/initdb")]
    found.sort(key=lambda path: [int(part) for part in re.findall(r"\d+", str(path))], reverse=True)
    on_path = shutil.which("initdb")
    if on_path:
        found.append(Path(on_path).resolve().parent)
    for folder in found:
        if (folder / "postgres").exists() and _has_extension(folder):
            return folder
    raise NotAvailable(f"no PostgreSQL with {EXTENSION} (Debian: apt install postgresql)")


def _has_extension(folder: Path) -> bool:
    asked = [str(folder / "pg_config"), "--sharedir"]
    try:
        shared = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return False
    return (Path(shared.stdout.strip()) / "extension" / f"{EXTENSION}.control").exists()


def _user() -> pwd.struct_passwd | None:
    """Return the user as whom it is to run; None for the one that runs the tests."""
    if os.geteuid() != 0:
        return None
    for name in STAND_INS_OF_ROOT:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NotAvailable(
        f"PostgreSQL does not run as root, nor is there a user of {STAND_INS_OF_ROOT}"
    )


def not_available() -> str | None:
    """Return why there can be no PostgreSQL for Prefect; None when there can be one."""
    try:
        binaries()
        _user()
    except NotAvailable as reason:
        return str(reason)
    return None


class PrefectDatabase:
    """A PostgreSQL with an empty database, in a folder that exists; it is not running at first."""

    def __init__(self, folder: Path) -> None:
        """Set it up."""
        self._folder = folder
        self._data = folder / "data"
        self._environment = clean_environment(os.environ, folder)
        self._user = _user()
        self._killed = False
        if self._user is not None:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        self._program("initdb", f"--username={OWNER}", "--auth=trust", "--no-sync", "-EUTF8")
        lines = [f"{name} = '{value}'\n" for name, value in SETTINGS.items()]
        lines.append(f"unix_socket_directories = '{folder}'\n")
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.writelines(lines)

    @property
    def server_settings(self) -> dict[str, str]:
        """What a Prefect server needs in its environment to use it."""
        address = {"host": str(self._folder)}
        url = URL.create("postgresql+asyncpg", OWNER, database=NAME, query=address)
        return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url.render_as_string()}

    def start(self) -> None:
        """Start it, and wait until it answers; after a crash that is when it has recovered.

        Raises:
            ChildFailed: it ended, or took too long.
        """
        command = [str(binaries() / "postgres"), "-D", str(self._data)]
        log = self._folder / "log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._as_user,
            )
        self.child = Child("PostgreSQL", process, log)
        wait_until(self.answers, START_SECONDS, "the start of PostgreSQL", [self.child])
        self._killed = False

    def answers(self) -> bool:
        """Return whether it takes connections."""
        try:
            self.rows("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def rows(self, statement: str, database: str = "postgres") -> list[Any]:
        """Return what it answers to a statement."""
        with psycopg.connect(
            host=str(self._folder),
            user=OWNER,
            dbname=database,
            autocommit=True,
            connect_timeout=10,
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: with SIGINT in order, with SIGQUIT at once, so that its next start recovers."""
        self.child.process.send_signal(how)
        self.child.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Kill it with all its processes, as a lack of memory would."""
        self.child.process.send_signal(signal.SIGSTOP)  # so that it starts no more of them
        children = psutil.Process(self.child.process.pid).children()
        self.child.kill()
        # Until all are gone, what they share is in use, and a new one would not start.
        _, alive = psutil.wait_procs(children, STOP_SECONDS)
        assert not alive, alive
        self._killed = True

    def end(self) -> None:
        """Stop it, if it is running; what it shared outside its folder goes, too."""
        if self._killed:
            self.start()
        if self.child.process.poll() is None:
            self.stop(signal.SIGQUIT)

    @property
    def _as_user(self) -> dict[str, Any]:
        """How to start a process of it."""
        user: dict[str, Any] = {"cwd": self._folder, "env": self._environment}
        if self._user is not None:
            user |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        return user

    def _program(self, name: str, *options: str) -> None:
        command = [str(binaries() / name), "-D", str(self._data), *options]
        subprocess.run(
            command, check=True, capture_output=True, timeout=INITDB_SECONDS, **self._as_user
        )


@contextmanager
def prefect_database() -> Iterator[PrefectDatabase]:
    """Run a PostgreSQL for Prefect for as long as the block lasts.

    Skips the test where there is none, but never in CI.
    """
    reason = not_available()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with temporary_folder() as name:
        database = PrefectDatabase(Path(name))
        try:
            database.start()
            database.rows(f"CREATE DATABASE {NAME}")
            yield database
        finally:
            database.end()
