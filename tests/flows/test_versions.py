"""Every job works on the recorded tables of every known version of Validibot."""

import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, create_engine, text

from demo.embedded import EmbeddedServer
from demo.sample import SampleSpec, load_sample
from flows.jobs import JOBS
from maintenance import schema
from maintenance import settings as settings_module
from maintenance.checks.database import NAMES, database_check
from maintenance.checks.finding import carry_out
from maintenance.containers.labels import RUN_ID, STARTED_AT
from maintenance.database import dispose_engines
from maintenance.drift import recognize
from maintenance.grants import document, grants
from maintenance.report import Report, StopReason
from maintenance.schema.base import Version
from maintenance.schema.versions import create_tables
from maintenance.settings import DRIVER, Settings, settings
from tests.support.markers import identify
from tests.support.odd_engine import INSPECTED, LABELS, LISTED, odd_engine
from tests.support.recorded import create_recorded, recorded_tables
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot
from tests.support.work import work_for_every_job

ROLE = "of_versions"
CONTAINERS = "cleanup-orphaned-containers"
ON_ROWS = sorted(set(JOBS) - {CONTAINERS})
IN_THE_WAY = "submissions/folder: is a directory where a file was expected"

CATALOGUE = """
SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) FROM pg_constraint
WHERE contype IN ('c', 'f', 'p', 'u') AND connamespace = 'public'::regnamespace
UNION ALL SELECT tablename::text, indexname::text, indexdef FROM pg_indexes
WHERE schemaname = 'public'
UNION ALL SELECT attrelid::regclass::text, attname::text,
  concat(format_type(atttypid, atttypmod), attnotnull, attidentity) FROM pg_attribute
WHERE attnum > 0 AND NOT attisdropped AND attrelid IN (
  SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace)
"""


@pytest.fixture(scope="module", params=list(Version))
def version(request: pytest.FixtureRequest) -> Version:
    return Version(request.param)


@pytest.fixture(scope="module")
def template_database(server: EmbeddedServer, version: Version) -> Iterator[str]:
    """Every database of this module is a recorded one."""
    name = f"recorded_{version.replace('.', '_')}"
    engine = create_engine(server.create_database(name).set(drivername=DRIVER))
    create_recorded(engine, version)
    identify(engine)
    engine.dispose()
    yield name
    server.drop_database(name)


def catalogue(engine: Engine) -> set[tuple[str, str, str]]:
    """Everything about the tables that jobs write; the recorded parents have keys only."""
    written = {table.name for table in recorded_tables() if not table.only_read}
    with engine.connect() as connection:
        rows = connection.execute(text(CATALOGUE)).all()
    # A definition that is read again gets other casts and parentheses.
    return {
        (table, name, re.sub(r"::[a-z ]+(\[\])?|[()\s]", "", definition))
        for table, name, definition in rows
        if table in written
    }


def test_the_defined_tables_are_the_recorded_ones(
    server: EmbeddedServer, database: Engine, version: Version
) -> None:
    url = server.create_database("defined").set(drivername=DRIVER)
    engine = create_engine(url)
    create_tables(engine, version)
    recorded, defined = catalogue(database), catalogue(engine)
    engine.dispose()
    server.drop_database("defined")
    assert defined - recorded == set()
    # Keys to tables that no job uses are recorded, and not defined.
    assert {name for _, name, _ in recorded - defined} == {
        "validations_executionattempt_deployment_id_fk",
        "validations_resolved_io_definition_id_0e0bf8fa_fk_validatio",
        "validations_validati_ruleset_assertion_id_f687ae4f_fk_validatio",
    }


def test_10_5_a_recorded_database_is_taken_for_its_version(
    environment: Settings, database: Engine, version: Version
) -> None:
    with database.connect() as connection:
        found = recognize(connection)
    assert (found.version, found.differences) == (version, ())
    findings = {one.name: one for one in carry_out([database_check(settings())])}
    assert {str(one.level) for one in findings.values()} == {"ok"}
    assert f"Validibot {version}" in findings[NAMES[1]].text


def test_containers_of_ended_runs_are_removed_on_every_version(
    environment: Settings, validibot: Validibot, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = validibot.run(None, ended_at=NOW - DAY)
    labels = LABELS | {RUN_ID: str(run_id), STARTED_AT: NOW.isoformat()}
    answers = {
        "GET_json": (200, [LISTED | {"Labels": labels}]),
        "GET_inspect": (200, INSPECTED | {"Config": {"Labels": labels}}),
    }
    with odd_engine(answers) as host:
        monkeypatch.setenv("DEPLOYMENT_TARGET", "self_hosted")
        monkeypatch.setenv("DOCKER_HOST", host)
        settings_module.settings.cache_clear()
        before = validibot.snapshot()
        forecast = run(JOBS[CONTAINERS].flow, as_of=NOW, dry_run=True)
        report = run(JOBS[CONTAINERS].flow, as_of=NOW)
    assert validibot.snapshot() == before
    assert (forecast.selected, report.selected, report.done) == (1, 1, 1)


def assert_as_forecast(forecast: Report, report: Report) -> None:
    """The run did what the dry run had said; a dry run cannot know which files fail to go."""
    names = ["selected", "deferred", "fingerprint", "files", "bytes"]
    assert all(IN_THE_WAY in failure.cause for failure in report.failures)
    assert [getattr(forecast, one) for one in names] == [getattr(report, one) for one in names]
    if not report.failures:
        assert +forecast.rows_by_table == +report.rows_by_table


@pytest.mark.parametrize("job", ON_ROWS)
def test_every_job_works_on_every_version(
    job: str, environment: Settings, validibot: Validibot, version: Version
) -> None:
    assert validibot.version == version
    work_for_every_job(validibot)
    before = validibot.snapshot()
    forecast = run(JOBS[job].flow, as_of=NOW, dry_run=True)
    assert validibot.snapshot() == before
    report = run(JOBS[job].flow, as_of=NOW)
    assert report.stopped_because is StopReason.DRAINED
    assert_as_forecast(forecast, report)
    assert report.done > 0
    again = run(JOBS[job].flow, as_of=NOW)
    assert (again.done, sum(again.rows_by_table.values())) == (0, 0)


@pytest.fixture
def limited(
    server: EmbeddedServer,
    environment: Settings,
    database: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """Jobs run under a role without privileges."""
    address = server.url("postgres").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))
        url = environment.url.set(username=ROLE, drivername="postgresql")
        monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
        settings_module.settings.cache_clear()
        yield ROLE
        dispose_engines()
        with database.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {ROLE}"))
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(ROLE)))


@pytest.mark.parametrize("job", ON_ROWS)
def test_the_rights_of_one_job_suffice_on_every_version(
    job: str, limited: str, validibot: Validibot
) -> None:
    work_for_every_job(validibot)
    with validibot.engine.begin() as connection:
        connection.execute(text(grants(limited, [job])))
    forecast = run(JOBS[job].flow, as_of=NOW, dry_run=True)
    report = run(JOBS[job].flow, as_of=NOW)
    assert report.stopped_because is StopReason.DRAINED
    assert_as_forecast(forecast, report)


def test_the_documented_grants_can_be_read_on_every_version(limited: str, database: Engine) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql(document().replace("validibot_maintenance", limited))
    findings = carry_out([database_check(settings())])
    assert {str(one.level) for one in findings} == {"ok"}


def test_the_sample_data_fits_every_version(
    environment: Settings, database: Engine, version: Version
) -> None:
    spec = SampleSpec(submissions=60, active_share=0.5, interrupted_share=0.5)
    summary = load_sample(database, environment.storage_root, spec, NOW)
    has_continuations = schema.continuations.name in summary.rows
    assert has_continuations is (version >= Version.V0_16)
    assert (summary.runs_interrupted > 0) is has_continuations
    report = run(JOBS["cleanup-stuck-runs"].flow, as_of=NOW)
    assert (report.done, report.deferred) == (summary.runs_stuck, summary.runs_interrupted)
    receipts = run(JOBS["cleanup-callback-receipts"].flow, as_of=NOW)
    assert receipts.done == summary.receipts_old_terminal
    freed = receipts.rows_by_table.get(schema.continuations.name, 0)
    assert (freed > 0) is has_continuations
