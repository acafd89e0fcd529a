"""The settings of the server, the database and the role do not matter (SPEC 10.8)."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, text

from demo.embedded import EmbeddedServer
from flows.backlog import read_backlogs
from flows.jobs import JOBS
from maintenance import settings as settings_module
from maintenance.access import ACCESS
from maintenance.database import dispose_engines
from maintenance.errors import DatabaseError
from maintenance.report import StopReason
from maintenance.settings import Settings
from maintenance.transient import is_transient
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot
from tests.support.work import work_for_every_job

WRITING = sorted(job for job, access in ACCESS.items() if access.update or access.delete)
# Each value once; what does not exclude another setting is tested together with it.
SETTINGS = [
    {
        "DateStyle": "SQL, DMY",
        "IntervalStyle": "sql_standard",
        "client_encoding": "LATIN1",
        "standard_conforming_strings": "off",
        "lock_timeout": "1",
    },
    {
        "DateStyle": "German",
        "IntervalStyle": "iso_8601",
        "TimeZone": "America/New_York",
        "default_transaction_isolation": "serializable",
        "default_transaction_deferrable": "on",
    },
    {
        "DateStyle": "Postgres, MDY",
        "bytea_output": "escape",
        "extra_float_digits": "-15",
        "default_transaction_read_only": "on",
        "transform_null_equals": "on",
        "search_path": "other, public, pg_catalog",
    },
]
HIDING = """
CREATE SCHEMA other;
CREATE FUNCTION other.clock_timestamp() RETURNS timestamptz LANGUAGE sql
 AS 'SELECT timestamptz ''2000-01-01''';
CREATE FUNCTION other.pg_backend_pid() RETURNS integer LANGUAGE sql AS 'SELECT 1';
"""


def address(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture
def contrary(
    request: pytest.FixtureRequest,
    server: EmbeddedServer,
    environment: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """Jobs connect as a role with these settings."""
    with psycopg.connect(address(server.url("postgres")), autocommit=True) as admin:
        admin.execute("CREATE ROLE contrary LOGIN SUPERUSER")
        for name, value in request.param.items():
            values = sql.SQL(value) if name == "search_path" else sql.Literal(value)
            admin.execute(
                sql.SQL("ALTER ROLE contrary SET {} = {}").format(sql.Identifier(name), values)
            )
        monkeypatch.setenv("DATABASE_URL", address(environment.url.set(username="contrary")))
        settings_module.settings.cache_clear()
        yield
        dispose_engines()
        admin.execute("DROP ROLE contrary")


@pytest.mark.parametrize("contrary", SETTINGS, indirect=True, ids=str)
def test_10_8_every_job_does_its_work_whatever_the_role_is_set_to(
    contrary: None, validibot: Validibot
) -> None:
    with validibot.engine.begin() as connection:
        connection.execute(text(HIDING))
    work_for_every_job(validibot)
    for job in WRITING:
        forecast = run(JOBS[job].flow, as_of=NOW, dry_run=True)
        report = run(JOBS[job].flow, as_of=NOW)
        assert report.stopped_because is StopReason.DRAINED, job
        assert report.done > 0, job
        assert report.selected == forecast.selected, job
    assert {backlog.problem for backlog in read_backlogs().values()} == {""}


@pytest.mark.parametrize("option", ["-c DateStyle=German", "-c default_transaction_read_only=on"])
def test_10_8_options_of_the_client_library_do_not_matter(
    option: str, environment: Settings, validibot: Validibot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", option)
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGDATESTYLE", "SQL, DMY")
    validibot.session(NOW - DAY)
    report = run(JOBS["clear-sessions"].flow, as_of=NOW)
    assert (report.done, report.stopped_because) == (1, StopReason.DRAINED)


@pytest.fixture
def service(
    environment: Settings, validibot: Validibot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service of the client library that names another database, and odd settings."""
    validibot.session(NOW - DAY)
    file = tmp_path / "pg_service.conf"
    file.write_text("[other]\ndbname=nowhere\noptions=-c DateStyle=German\nconnect_timeout=1\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    monkeypatch.setenv("PGSERVICE", "other")


def test_10_8_a_service_of_the_client_library_does_not_matter(service: None) -> None:
    assert run(JOBS["clear-sessions"].flow, as_of=NOW).done == 1


def test_10_8_a_service_that_does_not_exist_is_one_clear_error(
    service: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSERVICE", "absent")
    with pytest.raises(DatabaseError, match='definition of service "absent" not found') as caught:
        run(JOBS["clear-sessions"].flow, as_of=NOW)
    assert not is_transient(caught.value)


@pytest.mark.parametrize("kind", ["read-only", "read-write", "standby", "prefer-standby"])
def test_10_8_the_kind_of_session_in_the_environment_does_not_matter(
    kind: str, environment: Settings, validibot: Validibot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTARGETSESSIONATTRS", kind)
    validibot.session(NOW - DAY)
    assert run(JOBS["clear-sessions"].flow, as_of=NOW).done == 1


@pytest.mark.parametrize(
    ("kind", "works"), [("read-write", True), ("primary", True), ("read-only", False)]
)
def test_10_8_the_kind_of_session_in_the_address_does_not_change_a_result(
    kind: str,
    works: bool,
    environment: Settings,
    validibot: Validibot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = environment.url.update_query_dict({"target_session_attrs": kind})
    monkeypatch.setenv("DATABASE_URL", address(url))
    settings_module.settings.cache_clear()
    dispose_engines()
    validibot.session(NOW - DAY)
    if works:
        assert run(JOBS["clear-sessions"].flow, as_of=NOW).done == 1
        return
    with pytest.raises(DatabaseError, match="session is not read-only") as caught:
        run(JOBS["clear-sessions"].flow, as_of=NOW)
    assert not is_transient(caught.value)
