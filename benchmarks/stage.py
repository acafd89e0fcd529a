"""A benchmark's stage: an embedded PostgreSQL with sample data, copied afresh for every way."""

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from sqlalchemy import URL, create_engine, text

from demo.embedded import EmbeddedServer, embedded_server
from demo.sample import SampleSpec, load_sample
from maintenance.schema.versions import create_tables
from maintenance.settings import DRIVER

SERVER_PARAMETERS = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "track_io_timing": "on",
}
"""Settings for a machine of this size; durability (fsync) stays on."""

DUE = SampleSpec(
    sessions=0,
    idempotency_keys=0,
    expired_share=1.0,
    active_share=0.0,
    odd_share=0.0,
    permanent_share=0.0,
    do_not_store_share=0.0,
    purged_share=0.0,
    outputs_purged_share=0.0,
)
"""Submissions that are all due to be purged."""


@dataclass(frozen=True)
class Copy:
    """One copy of the stage's data, for one way of doing the work."""

    url: URL
    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a job finds this copy by."""
        return {
            "DATABASE_URL": self.url.render_as_string(hide_password=False),
            "STORAGE_ROOT": str(self.root),
            "PREFECT_HOME": str(self.root.parent / "prefect"),
        }


class Stage:
    """Sample data, and copies of it."""

    def __init__(
        self, server: EmbeddedServer, base: Path, spec: SampleSpec, prepare: Sequence[str]
    ) -> None:
        """Load the sample data once, and run the statements that make it this benchmark's."""
        self._server = server
        self._base = base
        self._numbers = count()
        self.as_of = datetime.now(UTC)
        for name in ("private", "public"):
            (base / "origin" / name).mkdir(parents=True)
        engine = create_engine(server.create_database("origin").set(drivername=DRIVER))
        create_tables(engine)
        self.summary = load_sample(engine, base / "origin", spec, self.as_of)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in (*prepare, "VACUUM ANALYZE"):
                connection.execute(text(statement))
        engine.dispose()

    @contextmanager
    def copy(self) -> Iterator[Copy]:
        """Copy database and files (by hard links: removing a name costs the same)."""
        name = f"copy_{next(self._numbers)}"
        url = self._server.create_database(name, template="origin")
        root = self._base / name
        command = ["/bin/cp", "-al", str(self._base / "origin"), str(root)]
        subprocess.run(command, check=True)
        os.sync()
        try:
            yield Copy(url, root)
        finally:
            self._server.drop_database(name)
            shutil.rmtree(root)


@contextmanager
def stage(spec: SampleSpec, prepare: Sequence[str] = ()) -> Iterator[Stage]:
    """Prepare a stage in a temporary directory."""
    with (
        tempfile.TemporaryDirectory(prefix="vb-", ignore_cleanup_errors=True) as directory,
        embedded_server(Path(directory) / "pg", SERVER_PARAMETERS) as server,
    ):
        yield Stage(server, Path(directory), spec, prepare)


def machine() -> str:
    """Describe the machine in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()},"
        f" Python {platform.python_version()}, embedded PostgreSQL 18"
    )
