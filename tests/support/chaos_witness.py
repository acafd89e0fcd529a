"""Evidence of who wrote what to the application's database, which no runner can escape.

Every process that the test starts names itself in all its connections to PostgreSQL, by an option
that libpq takes from the environment. A login trigger notes which process a session belongs to,
and a trigger on every table notes, for each row that is written, the process that writes and the
one that holds the job's guard at that very moment. The notes are part of the writer's transaction:
what was rolled back had no effect and leaves no note; what was committed cannot be without one.
"""

import os
from collections import defaultdict
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine, text

from demo.environment import PROJECT
from maintenance import schema
from maintenance.database import APPLICATION

ROW_SECONDS = 0.03
"""So slow is a write, that crashes find runs at work."""

NAME_EVERY_PROCESS = """\
import os, time
os.environ["PGOPTIONS"] = f"-c chaos.process={os.getpid()}-{time.time_ns()}"
"""

INSTALL = f"""
CREATE SCHEMA chaos;
CREATE TABLE chaos.session (
    pid integer, began timestamptz DEFAULT clock_timestamp(), name text, process text
);
CREATE TABLE chaos.write (
    number bigint GENERATED ALWAYS AS IDENTITY,
    job text, process text, holders text, what text
);
CREATE FUNCTION chaos.login() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.session (pid, name, process)
    SELECT pg_backend_pid(), current_setting('application_name'),
        current_setting('chaos.process', true);
END $$;
CREATE EVENT TRIGGER login ON login EXECUTE FUNCTION chaos.login();
CREATE FUNCTION chaos.note() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    this_job text := substr(current_setting('application_name'), {len(APPLICATION) + 2});
BEGIN
    INSERT INTO chaos.write (job, process, what, holders)
    SELECT this_job, current_setting('chaos.process', true), TG_OP || ' ' || TG_TABLE_NAME,
        string_agg(DISTINCT s.process, ' ')
    FROM pg_locks l CROSS JOIN LATERAL (
        SELECT * FROM chaos.session WHERE pid = l.pid ORDER BY began DESC LIMIT 1
    ) s
    WHERE l.locktype = 'advisory' AND l.granted AND starts_with(s.name, this_job || '/')
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());
    PERFORM pg_sleep({ROW_SECONDS});
    RETURN NULL;
END $$;
"""
ATTACH = (
    "CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {}"
    " FOR EACH ROW EXECUTE FUNCTION chaos.note()"
)
WRITES = text("SELECT job, process, holders, what FROM chaos.write ORDER BY number")
HOLDERS = text(
    "SELECT application_name FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name ~ '/[0-9a-f]{32}$'"
)


class Write(NamedTuple):
    """One row that was written by a job: by which process, and who held the job's guard."""

    job: str
    process: str | None
    holders: str | None
    what: str


class Witness:
    """What the application's database saw."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        """Start to watch; `variables` then make processes known."""
        self._engine = engine
        directory.joinpath("sitecustomize.py").write_text(NAME_EVERY_PROCESS)
        self.variables = {"PYTHONPATH": f"{directory}{os.pathsep}{PROJECT}"}
        with engine.begin() as connection:
            connection.exec_driver_sql(INSTALL)
            for table in schema.metadata.sorted_tables:
                connection.exec_driver_sql(ATTACH.format(table.name))

    def at_work(self) -> set[str]:
        """The flow runs that hold a guard now."""
        with self._engine.connect() as connection:
            return {name.rpartition("/")[2] for name in connection.scalars(HOLDERS)}

    def writes(self) -> list[Write]:
        """All that was written and committed, in order."""
        with self._engine.connect() as connection:
            return [Write(*row) for row in connection.execute(WRITES)]


def without_guard(writes: list[Write]) -> list[Write]:
    """Return what was written by a process that was not the holder of the job's guard."""
    return [one for one in writes if one.process is None or one.holders != one.process]


def interleaved(writes: list[Write]) -> dict[str, list[str]]:
    """Return the processes of a job by turns, where one wrote again after another one had."""
    by_job: dict[str, list[str]] = defaultdict(list)
    for one in writes:
        by_job[one.job].append(str(one.process))
    turns = {job: [process for process, _ in groupby(named)] for job, named in by_job.items()}
    return {job: named for job, named in turns.items() if len(named) != len(set(named))}
