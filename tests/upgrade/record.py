"""`python -m tests.upgrade.record`: write the records of a Prefect server into a file.

For the time before Prefect is raised: with the version that is still locked, it starts a server on
SQLite, makes a history on it (see history.py) and writes `prefect-VERSION.sql.gz` beside this file.
`test_upgrade.py` then starts the next version on it. Names of this machine, its folders and ports
are replaced, so that none of them is in the file. The key in it is that of the examples of
notifications, whose addresses are placeholders.
"""

import gzip
import os
import re
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path

from demo.embedded import embedded_server
from demo.environment import PROJECT, clean_environment
from demo.servers import PrefectServer
from tests.support.memory import temporary_folder
from tests.upgrade.history import EDITED, make_history, python

FOLDER = Path(__file__).parent
DATABASE = "prefect.db"
SUBMISSIONS = "60"
REDUCE = f"""
PRAGMA foreign_keys = ON;
DELETE FROM csrf_token;
DELETE FROM flow_run WHERE state_type = 'SCHEDULED' AND deployment_id <> (
    SELECT one.id FROM deployment AS one JOIN flow ON flow.id = flow_id
    WHERE flow.name = '{EDITED}');
VACUUM;
"""
"""Tokens are no history. Of the runs to come, those of one job are enough."""


@contextmanager
def sample(folder: Path) -> Iterator[dict[str, str]]:
    """Give the environment of jobs that have a Validibot with sample data."""
    storage = folder / "storage"
    storage.mkdir()
    with embedded_server(folder / "pg") as running:
        url = running.create_database("validibot").render_as_string(hide_password=False)
        variables = {"DATABASE_URL": url, "STORAGE_ROOT": str(storage)}
        yield clean_environment(os.environ, folder) | variables


def record(folder: Path) -> str:
    """Make a history, and return what the server has kept of it, as SQL."""
    home = folder / "home"
    home.mkdir()
    with sample(folder) as environment:
        with PrefectServer(home, folder, environment) as server:
            server.wait_until_ready()
            python(
                *(server, environment, folder),
                *("-m", "demo.sample", "--submissions", SUBMISSIONS),
            )
            make_history(server, environment, folder)
            login, port = server.login, server.api.address.rpartition(":")[2]
        with closing(sqlite3.connect(home / DATABASE)) as database:
            database.executescript(REDUCE)
            text = "\n".join(database.iterdump()) + "\n"
    assert login not in text
    assert login.partition(":")[2] not in text
    return without_this_machine(text, folder, port)


def without_this_machine(text: str, folder: Path, port: str) -> str:
    """Replace folders, the name of the machine and the port."""
    names = {
        str(folder): "/srv/prefect",
        str(PROJECT): "/opt/validibot-maintenance",
        sys.prefix: "/opt/python",
        sys.base_prefix: "/usr",
        str(Path.home()): "/root",
        socket.gethostname(): "machine",
        f"127.0.0.1:{port}": "127.0.0.1:4200",
    }
    for name, other in names.items():
        text = re.sub(rf"(?<![\w/.-]){re.escape(name)}(?![\w-])", other, text)
    return text


def main() -> None:
    """Record, and write the file."""
    with temporary_folder() as name:
        text = record(Path(name))
    path = FOLDER / f"prefect-{version('prefect')}.sql.gz"
    # Without the time of its making: the same records are the same file.
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    sys.stdout.write(f"{path.name}: {len(text):,} bytes of SQL, {path.stat().st_size:,} packed\n")


if __name__ == "__main__":
    main()
