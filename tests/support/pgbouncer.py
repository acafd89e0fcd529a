"""A real PgBouncer in front of the embedded PostgreSQL; tests that ask for it are marked."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL

from demo.processes import start_child, wait_until

PORT = 6432
START_SECONDS = 20
DIRECTORIES = f"/usr/sbin:/usr/local/sbin:{os.environ.get('PATH', '')}"


def pgbouncer_or_skip() -> str:
    """Return the path of the program."""
    found = shutil.which("pgbouncer", path=DIRECTORIES)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("PgBouncer is not installed: apt-get install pgbouncer")
        pytest.skip("PgBouncer is not installed")
    return found


@contextmanager
def pgbouncer(server: URL, mode: str, **settings: object) -> Iterator[URL]:
    """Run one in front of a database; yield the database's address behind it."""
    program = pgbouncer_or_skip()
    with tempfile.TemporaryDirectory(prefix="pb-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        home.chmod(0o777)  # as root it changes to another user
        host = server.query["host"]
        lines = {
            "listen_port": PORT,
            "unix_socket_dir": home,
            "auth_type": "any",
            "pool_mode": mode,
            # It refuses to run as root; the server's own user may enter the server's folder.
            "user": Path(str(host)).owner() if os.geteuid() == 0 else "",
            "default_pool_size": 5,
            "ignore_startup_parameters": "extra_float_digits",
        } | settings
        text = "".join(f"{key} = {value}\n" for key, value in lines.items() if value != "")
        database = f"{server.database} = host={host} dbname={server.database} user=postgres\n"
        configuration = home / "pgbouncer.ini"
        configuration.write_text(f"[databases]\n{database}[pgbouncer]\n{text}")
        configuration.chmod(0o644)
        child = start_child(
            "PgBouncer", [program, str(configuration)], home / "log", {"PATH": DIRECTORIES}
        )
        try:
            socket = home / f".s.PGSQL.{PORT}"
            wait_until(socket.exists, START_SECONDS, "PgBouncer's socket", [child])
            yield server.set(port=PORT, query={"host": str(home)})
        finally:
            child.process.terminate()
            try:
                child.process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
