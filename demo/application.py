"""A Validibot to try the jobs on: an embedded PostgreSQL, files, and sample data of this moment."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from platformdirs.api import RuntimeDirWarning
from sqlalchemy import URL, ColumnElement, Engine, create_engine, exists, func, select

from demo.sample import SampleSpec, SampleSummary, load_sample
from maintenance.schema import runs, sessions, submissions
from maintenance.schema.versions import create_tables
from maintenance.schema.vocabulary import TERMINAL_RUN_STATUSES
from maintenance.settings import DRIVER
from maintenance.storage.marker import MARKER
from maintenance.timed_out import ERROR_LIKE

with warnings.catch_warnings():
    # Said at import where there is no login session (CI, containers); the fall-back is fine.
    warnings.simplefilter("ignore", RuntimeDirWarning)
    from demo.embedded import embedded_server

DATABASE = "validibot"
SERVER_PARAMETERS = {"fsync": "off"}  # the next demo starts from nothing anyway


@dataclass(frozen=True)
class Counts:
    """What the jobs are for, and what they must leave alone."""

    expired_submissions: int
    """With content past the recorded deadline, and no active run."""
    submissions_in_use: int
    """The same with an active run: never purged."""
    submissions_with_content: int
    hung_runs: int
    """Ended by the watchdog."""
    expired_sessions: int
    live_sessions: int
    files: int
    file_bytes: int


class Application:
    """A Validibot's database and files."""

    def __init__(self, url: URL, storage_root: Path) -> None:
        """Name the database and the storage root; `as_of` is the moment that all refers to."""
        self.url = url
        self.storage_root = storage_root
        self.as_of = datetime.now(UTC)

    @property
    def environment(self) -> dict[str, str]:
        """What a worker needs in its environment to work on it."""
        return {
            "DATABASE_URL": self.url.render_as_string(hide_password=False),
            "STORAGE_ROOT": str(self.storage_root),
        }

    def fill(self, submission_count: int) -> SampleSummary:
        """Make the tables, and the sample data with its files."""
        with self._engine() as engine:
            create_tables(engine)
            spec = SampleSpec(submissions=submission_count)
            return load_sample(engine, self.storage_root, spec, self.as_of)

    def count(self) -> Counts:
        """Count what is there, as of the moment the sample was made for."""
        has_content = submissions.c.content_purged_at.is_(None)
        expired = has_content & (submissions.c.expires_at <= self.as_of)
        in_use = exists().where(
            runs.c.submission_id == submissions.c.id,
            runs.c.status.not_in(TERMINAL_RUN_STATUSES),
        )
        old = sessions.c.expire_date < self.as_of
        files = [path for path in self.storage_root.rglob("*") if path.is_file()]
        sizes = [path.lstat().st_size for path in files if path.name != MARKER]
        with self._engine() as engine, engine.connect() as connection:

            def number(condition: ColumnElement[bool]) -> int:
                return connection.execute(select(func.count()).where(condition)).scalar_one()

            return Counts(
                expired_submissions=number(expired & ~in_use),
                submissions_in_use=number(expired & in_use),
                submissions_with_content=number(has_content),
                hung_runs=number(runs.c.error.like(ERROR_LIKE)),
                expired_sessions=number(old),
                live_sessions=number(~old),
                files=len(sizes),
                file_bytes=sum(sizes),
            )

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        engine = create_engine(self.url.set(drivername=DRIVER))
        try:
            yield engine
        finally:
            engine.dispose()


@contextmanager
def application(data: Path, storage_root: Path) -> Iterator[Application]:
    """Run an embedded PostgreSQL with an empty database for as long as the block lasts."""
    with embedded_server(data, SERVER_PARAMETERS) as server:
        yield Application(server.create_database(DATABASE), storage_root)
