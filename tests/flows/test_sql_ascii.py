"""A database in SQL_ASCII, which holds texts of any bytes (SPEC 10.8)."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import URL, Engine, create_engine, text

from demo.embedded import EmbeddedServer
from flows.jobs import JOBS
from maintenance.access import ACCESS
from maintenance.report import StopReason
from maintenance.schema.versions import create_tables
from maintenance.settings import DRIVER
from tests.support.markers import identify
from tests.support.runs import run
from tests.support.validibot import NOW, Validibot
from tests.support.work import work_for_every_job

WRITING = sorted(job for job, access in ACCESS.items() if access.update or access.delete)


def address(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def template_database(server: EmbeddedServer) -> str:
    name = "template_ascii"
    with psycopg.connect(address(server.url("postgres")), autocommit=True) as admin:
        admin.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII'"
            " LC_COLLATE 'C' LC_CTYPE 'C'".encode()
        )
    engine = create_engine(
        server.url(name).set(drivername=DRIVER), connect_args={"client_encoding": "UTF8"}
    )
    create_tables(engine)
    identify(engine)
    engine.dispose()
    return name


@pytest.fixture
def database(database_url: URL) -> Iterator[Engine]:
    engine = create_engine(
        database_url.set(drivername=DRIVER), connect_args={"client_encoding": "UTF8"}
    )
    yield engine
    engine.dispose()


@pytest.mark.usefixtures("environment")
def test_10_8_every_job_does_its_work(database_url: URL, validibot: Validibot) -> None:
    work_for_every_job(validibot)
    validibot.file("submissions/größe-数.json")
    named = validibot.submission(input_file="submissions/größe-数.json")
    raw = validibot.submission(content="x")
    named_raw = validibot.submission(input_file="submissions/b")
    with psycopg.connect(address(database_url), client_encoding="SQL_ASCII") as connection:
        connection.execute(
            "UPDATE submissions_submission SET content = convert_from('\\xff', 'SQL_ASCII')"
            " WHERE id = %s",
            (raw,),
        )
        connection.execute(
            "UPDATE submissions_submission SET input_file ="
            " convert_from('\\x7375626d697373696f6e732ffe', 'SQL_ASCII') WHERE id = %s",
            (named_raw,),
        )
    odd = validibot.root / "private"
    for job in WRITING:
        forecast = run(JOBS[job].flow, as_of=NOW, dry_run=True)
        report = run(JOBS[job].flow, as_of=NOW)
        assert report.stopped_because is StopReason.DRAINED, job
        assert report.done > 0, job
        assert report.selected == forecast.selected, job
    with validibot.engine.connect() as reading:
        purged = reading.execute(
            text("SELECT id FROM submissions_submission WHERE content_purged_at IS NOT NULL")
        ).scalars()
        assert {named, raw, named_raw} <= set(purged)
    assert not (odd / "submissions" / "größe-数.json").exists()
