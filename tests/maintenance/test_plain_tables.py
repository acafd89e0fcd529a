"""Jobs run only on plain tables, all of whose rows they see and whose constraints they know."""

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Engine, text

from demo.embedded import EmbeddedServer
from flows.cleanup_callback_receipts import cleanup_callback_receipts
from flows.cleanup_orphaned_containers import cleanup_orphaned_containers
from flows.clear_sessions import clear_sessions
from flows.process_purge_retries import process_purge_retries
from flows.purge_expired_outputs import purge_expired_outputs
from maintenance import settings as settings_module
from maintenance.access import ACCESS
from maintenance.checks.database import TABLES, database_check
from maintenance.checks.finding import Finding, carry_out
from maintenance.database import dispose_engines
from maintenance.errors import SchemaMismatch
from maintenance.grants import grants
from maintenance.settings import Settings, settings
from tests.support.runs import run
from tests.support.sessions import PARTITIONED
from tests.support.validibot import DAY, NOW, TICK, Validibot

ROLE = "hidden_from"


@pytest.fixture(autouse=True)
def _environment(environment: Settings) -> None:
    """Every test here runs against its own database."""


def change(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def tables_finding(current: Settings) -> Finding:
    return {finding.name: finding for finding in carry_out([database_check(current)])}[TABLES]


def refused(flow: Any, engine: Engine, expected: str) -> None:
    """A real run, a dry run and the preflight all name the problem; nothing is touched."""
    before = snapshot(engine)
    for options in ({}, {"dry_run": True}):
        with pytest.raises(SchemaMismatch) as caught:
            run(flow, as_of=NOW, **options)
        assert expected in str(caught.value)
        assert str(caught.value).endswith("; nothing was touched")
    assert snapshot(engine) == before
    finding = tables_finding(settings())
    assert (finding.level, expected in finding.text) == ("error", True)
    assert flow.name in finding.text


def snapshot(engine: Engine) -> Mapping[str, int]:
    with engine.connect() as connection:
        tables = connection.execute(
            text("SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public'")
        ).scalars()
        return {
            table: connection.execute(text(f'SELECT count(*) FROM "{table}"')).scalar_one()
            for table in tables
        }


def test_10_5_partitioned_sessions_are_refused_before_any_row_is_deleted(database: Engine) -> None:
    change(database, *PARTITIONED)
    for number in range(10):
        for name, time in (("expired", NOW - DAY + number * TICK), ("live", NOW + DAY)):
            change(database, f"INSERT INTO django_session VALUES ('{name}{number}', '', '{time}')")
    with database.begin() as application:
        application.execute(
            text("SELECT FROM django_session WHERE session_key = 'expired3' FOR UPDATE")
        )
        refused(clear_sessions, database, "table django_session is a partitioned table")


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (
            ("CREATE TABLE other () INHERITS (django_session)",),
            "table django_session is an inherited table",
        ),
        (
            ("CREATE TABLE parent (expire_date timestamptz NOT NULL)",
             "ALTER TABLE django_session INHERIT parent"),
            "table django_session is a child of an inherited table",
        ),
        (
            ("ALTER TABLE django_session RENAME TO hidden",
             "CREATE VIEW django_session AS SELECT * FROM hidden"),
            "table django_session is a view",
        ),
        (
            ("ALTER TABLE django_session RENAME TO hidden",
             "CREATE MATERIALIZED VIEW django_session AS SELECT * FROM hidden"),
            "table django_session is a materialized view",
        ),
        (
            ("ALTER TABLE django_session RENAME TO hidden",
             "CREATE TABLE whole (LIKE hidden) PARTITION BY RANGE (expire_date)",
             "CREATE TABLE django_session PARTITION OF whole DEFAULT"),
            "table django_session is a partition",
        ),
        (
            ("DROP TABLE django_session",
             "CREATE FOREIGN DATA WRAPPER away",
             "CREATE SERVER away FOREIGN DATA WRAPPER away",
             ("CREATE FOREIGN TABLE django_session (session_key varchar(40), session_data text,"
             " expire_date timestamptz) SERVER away")),
            "table django_session is a foreign table",
        ),
        (
            ("CREATE RULE keep AS ON DELETE TO django_session DO INSTEAD NOTHING",),
            "table django_session has rules (keep)",
        ),
        (
            (("CREATE TABLE logins (session varchar(40) REFERENCES django_session"
             " DEFERRABLE INITIALLY DEFERRED)"),),
            "table logins refers by (session) to django_session",
        ),
        (
            (("CREATE TABLE logins (session varchar(40) REFERENCES django_session"
             " ON DELETE CASCADE)"),),
            "table logins refers by (session) to django_session",
        ),
        (
            ("ALTER TABLE django_session ALTER expire_date TYPE timestamp",),
            "column django_session.expire_date has type timestamp without time zone",
        ),
    ],
)  # fmt: skip
def test_10_5_other_than_a_plain_table_is_refused_by_name(
    database: Engine, statements: tuple[str, ...], expected: str
) -> None:
    with database.connect() as connection:
        if "a foreign table" not in expected:
            row = text("INSERT INTO django_session VALUES ('expired', '', :time)")
            connection.execute(row, {"time": NOW - DAY})
            connection.commit()
    change(database, *statements)
    if "a foreign table" in expected:
        with pytest.raises(SchemaMismatch, match=expected):
            run(clear_sessions, as_of=NOW)
    else:
        refused(clear_sessions, database, expected)


@pytest.mark.parametrize(
    ("flow", "statement", "expected"),
    [
        (
            process_purge_retries,
            "ALTER TABLE submissions_purgeretry ADD priority int NOT NULL",
            "column submissions_purgeretry.priority is NOT NULL without a default",
        ),
        (
            process_purge_retries,
            (
                "ALTER TABLE submissions_purgeretry DROP attempt_count,"
                " ADD attempt_count int GENERATED ALWAYS AS (1) STORED"
            ),
            "column submissions_purgeretry.attempt_count is generated, and the job writes it",
        ),
        (
            purge_expired_outputs,
            "CREATE TABLE notes (finding bigint REFERENCES validations_validationfinding)",
            "table notes refers by (finding) to validations_validationfinding",
        ),
        (
            cleanup_callback_receipts,
            (
                "CREATE TABLE validations_delivery"
                " (callback_receipt_id uuid REFERENCES validations_callbackreceipt"
                " DEFERRABLE INITIALLY DEFERRED)"
            ),
            "table validations_delivery refers by (callback_receipt_id)",
        ),
        (
            clear_sessions,
            "ALTER TABLE django_session ADD owner bigint NOT NULL",
            (
                "column django_session.owner is NOT NULL without a default and unknown to the job,"
                " which deletes rows there"
            ),
        ),
        (
            purge_expired_outputs,
            "ALTER TABLE validations_validationrun ADD summary text NOT NULL",
            (
                "column validations_validationrun.summary is NOT NULL without a default and unknown"
                " to the job, which changes rows there"
            ),
        ),
        (
            purge_expired_outputs,
            "ALTER TABLE validations_validationrun ADD parent bigint REFERENCES users_user",
            (
                "table validations_validationrun, which the job writes, refers by (parent) to"
                " users_user, and the job does not know this foreign key"
            ),
        ),
    ],
)
def test_10_5_unknown_constraints_of_tables_that_a_job_writes_are_refused_by_name(
    database: Engine, flow: Any, statement: str, expected: str
) -> None:
    change(database, statement)
    refused(flow, database, expected)


def test_10_5_a_required_column_with_a_default_and_wider_columns_are_no_problem(
    database: Engine, validibot: Validibot
) -> None:
    change(
        database,
        "ALTER TABLE submissions_purgeretry ADD priority int NOT NULL DEFAULT 0",
        "ALTER TABLE submissions_submission ALTER name TYPE text",
        "ALTER TABLE submissions_submission ALTER input_file TYPE varchar(500)",
        "ALTER TABLE django_session SET UNLOGGED",
        "CREATE TABLE logins (org bigint REFERENCES users_organization)",
    )
    validibot.session(NOW - DAY)
    assert run(clear_sessions, as_of=NOW).done == 1
    assert run(process_purge_retries, as_of=NOW).failed == 0
    assert tables_finding(settings()).level == "ok"


def test_10_5_a_trigger_on_a_table_that_jobs_write_is_a_warning_of_the_preflight(
    database: Engine, validibot: Validibot
) -> None:
    change(
        database,
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
        "CREATE TRIGGER noted BEFORE DELETE ON django_session FOR EACH ROW EXECUTE FUNCTION note()",
    )
    validibot.session(NOW - DAY)
    assert run(clear_sessions, as_of=NOW).done == 1
    finding = tables_finding(settings())
    assert (finding.level, finding.text) == ("warning", "triggers on django_session (noted)")


@pytest.fixture
def limited(
    server: EmbeddedServer, database: Engine, database_url: URL, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Jobs run under a role with the documented grants, which row-level security applies to."""
    address = server.url("postgres").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {ROLE} LOGIN")
        change(database, grants(ROLE, ACCESS))
        url = database_url.set(username=ROLE, drivername="postgresql")
        monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
        settings_module.settings.cache_clear()
        yield ROLE
        dispose_engines()
        change(database, f"DROP OWNED BY {ROLE}")
        admin.execute(f"DROP ROLE {ROLE}")


@pytest.mark.parametrize("policy", [False, True])
def test_10_5_row_level_security_in_force_for_the_role_is_refused(
    limited: str, database: Engine, validibot: Validibot, policy: bool
) -> None:
    validibot.session(NOW - DAY)
    change(database, "ALTER TABLE django_session ENABLE ROW LEVEL SECURITY")
    if policy:
        change(database, f"CREATE POLICY all_rows ON django_session TO {limited} USING (true)")
    refused(clear_sessions, database, "row-level security of table django_session may hide rows")


def test_10_5_row_level_security_that_the_role_bypasses_is_no_problem(
    limited: str, database: Engine, validibot: Validibot
) -> None:
    validibot.session(NOW - DAY)
    change(
        database,
        "ALTER TABLE django_session ENABLE ROW LEVEL SECURITY",
        f"ALTER ROLE {limited} BYPASSRLS",
    )
    assert run(clear_sessions, as_of=NOW).done == 1


def test_10_5_runs_that_are_hidden_by_row_level_security_remove_no_container(
    limited: str, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOYMENT_TARGET", "self_hosted")
    settings_module.settings.cache_clear()
    change(database, "ALTER TABLE validations_validationrun ENABLE ROW LEVEL SECURITY")
    with pytest.raises(SchemaMismatch, match="row-level security"):
        run(cleanup_orphaned_containers, as_of=NOW)
