"""The preflight says which version a database is of, and how it differs (SPEC 10.5)."""

import pytest
from sqlalchemy import Engine, text

from maintenance.checks.database import VERSION, database_check
from maintenance.checks.finding import Finding, carry_out
from maintenance.drift import recognize
from maintenance.schema.base import Version
from maintenance.settings import Settings, settings

RECEIPT, CONTINUATION = "validations_callbackreceipt", "validations_validationruncontinuation"


def change(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def finding() -> Finding:
    return {one.name: one for one in carry_out([database_check(settings())])}[VERSION]


def test_a_database_without_a_difference_is_recognized(
    environment: Settings, database: Engine
) -> None:
    found = finding()
    assert (found.level, found.text) == ("ok", "the tables are those of Validibot 0.16")
    change(
        database,
        f"DROP TABLE {CONTINUATION}",
        f"ALTER TABLE {RECEIPT} DROP delivery_count, DROP last_error, DROP last_error_code,"
        " DROP processing_started_at, DROP processing_token",
        "ALTER TABLE validations_validator ADD supported_data_formats varchar(32)[] NOT NULL,"
        " ADD supported_file_types varchar(32)[] NOT NULL",
    )
    found = finding()
    assert (found.level, found.text) == ("ok", "the tables are those of Validibot 0.14")


@pytest.mark.parametrize(
    ("statement", "difference"),
    [
        (
            "ALTER TABLE validations_validationrun ADD priority integer NOT NULL",
            (
                "column validations_validationrun.priority is unknown (integer NOT NULL without a"
                " default)"
            ),
        ),
        (
            "ALTER TABLE django_session ADD extra text",
            "column django_session.extra is unknown (text)",
        ),
        (
            "ALTER TABLE submissions_submission ALTER name TYPE varchar(300)",
            (
                "column submissions_submission.name has type character varying(300) and not"
                " character varying(256)"
            ),
        ),
        (
            "ALTER TABLE submissions_submission ALTER input_file SET NOT NULL",
            "column submissions_submission.input_file is NOT NULL",
        ),
        (
            "ALTER TABLE validations_validationrun ALTER error DROP NOT NULL",
            "column validations_validationrun.error allows NULL",
        ),
        (
            "ALTER TABLE workflows_workflow DROP is_tombstoned",
            "column workflows_workflow.is_tombstoned is missing",
        ),
        ("DROP TABLE django_session", "table django_session is missing"),
        (
            "CREATE TABLE logins (session varchar(40) REFERENCES django_session)",
            "table logins refers by (session) to django_session, which is unknown",
        ),
        (
            (
                "CREATE TABLE tenants (id bigint PRIMARY KEY);"
                " ALTER TABLE validations_validationrun ADD FOREIGN KEY (user_id)"
                " REFERENCES tenants"
            ),
            "table validations_validationrun refers by (user_id) to tenants, which is unknown",
        ),
        (
            (
                f"ALTER TABLE {RECEIPT} DROP CONSTRAINT"
                " validations_callback_validation_run_id_8b60e51c_fk_validatio"
            ),
            f"table {RECEIPT} does not refer by (validation_run_id) to validations_validationrun",
        ),
        (f"ALTER TABLE {RECEIPT} DROP last_error", f"column {RECEIPT}.last_error is missing"),
    ],
)
def test_each_difference_is_named(
    environment: Settings, database: Engine, statement: str, difference: str
) -> None:
    change(database, *statement.split("; "))
    with database.connect() as connection:
        found = recognize(connection)
    assert (found.version, found.differences) == (Version.V0_16, (difference,))
    line = finding()
    assert line.level == "warning"
    assert line.text == (
        "the tables are not those of Validibot 0.14 or 0.16; nearest is 0.16, with 1 difference:"
        f" {difference}"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE other (org bigint REFERENCES users_organization, run uuid NOT NULL)",
        "ALTER TABLE django_session ALTER expire_date SET DEFAULT now()",
        "ALTER TABLE workflows_workflow ALTER allowed_file_types TYPE varchar(32)[]",
        "CREATE INDEX ON validations_validationrun (error_category)",
        # 0.15 still has it.
        "ALTER TABLE validations_validator ADD supported_file_types varchar(32)[] NOT NULL",
    ],
)
def test_what_no_job_minds_is_no_difference(
    environment: Settings, database: Engine, statement: str
) -> None:
    change(database, statement)
    assert finding().level == "ok"


def test_half_of_an_update_is_named_and_stops_the_jobs_it_concerns(
    environment: Settings, database: Engine
) -> None:
    change(database, f"DROP TABLE {CONTINUATION}")
    findings = {one.name: one for one in carry_out([database_check(settings())])}
    assert f"table {CONTINUATION} is missing" in findings[VERSION].text
    assert findings["tables and columns"].level == "error"
    assert "cleanup-callback-receipts" in findings["tables and columns"].text
