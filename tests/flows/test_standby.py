"""A standby is refused with a clear error, and nothing is tried on it (SPEC 10.8)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from flows.jobs import JOBS
from maintenance import settings as settings_module
from maintenance.access import ACCESS
from maintenance.database import dispose_engines
from maintenance.errors import DatabaseError
from maintenance.schema.versions import create_tables
from maintenance.settings import DRIVER
from tests.support.application_server import application_server
from tests.support.markers import identify
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

WRITING = sorted(job for job, access in ACCESS.items() if access.update or access.delete)


@pytest.fixture(scope="module")
def standby() -> Iterator[str]:
    """The address of a server in recovery, with a row that a job would delete."""
    with application_server({"fsync": "off"}) as running:
        url = running.server.create_database("validibot")
        engine = create_engine(url.set(drivername=DRIVER))
        create_tables(engine)
        identify(engine)
        Validibot(engine, Path("/nonexistent")).session(NOW - DAY)
        engine.dispose()
        running.become_standby()
        yield url.render_as_string(hide_password=False)


@pytest.mark.parametrize("job", WRITING)
def test_10_8_a_standby_is_refused(
    job: str, standby: str, storage_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", standby)
    monkeypatch.setenv("STORAGE_ROOT", str(storage_root))
    settings_module.settings.cache_clear()
    with pytest.raises(DatabaseError, match=r"the database is a standby.*: name the primary"):
        run(JOBS[job].flow, as_of=NOW)
    dispose_engines()
    settings_module.settings.cache_clear()
