"""Preflight of the database: it answers, its schema is known, and the role may do its work."""

from collections.abc import Iterable
from itertools import chain

from sqlalchemy import Connection, text

from maintenance.access import ACCESS
from maintenance.catalogue import hidden_schemas, problems, triggers
from maintenance.checks.continuations import CONTINUATIONS, check_continuations
from maintenance.checks.finding import Check, Finding, Severity, error, not_checked, ok, warning
from maintenance.database import APPLICATION, engine_for, transaction
from maintenance.drift import recognize
from maintenance.errors import DatabaseError
from maintenance.expiring import EXPIRING
from maintenance.guard import check_session
from maintenance.indexes import has_index, missing_indexes
from maintenance.privileges import as_grants, lacking, privileges_of
from maintenance.schema.versions import exists_in, live_version
from maintenance.settings import Settings

DATABASE, TABLES, GRANTS, INDEXES = "database", "tables and columns", "grants", "indexes"
VERSION = "Validibot's version"

NAMES = (DATABASE, VERSION, TABLES, GRANTS, INDEXES, CONTINUATIONS)

FIRST_VERSION = 14
CONNECT_SECONDS = 3.0
STATEMENT_SECONDS = 5.0
MAX_NAMED = 12

SEARCHED = (
    ("submissions_submission", "expires_at"),
    ("submissions_submissioninputfile", "submission_id"),
    ("submissions_purgeretry", "submission_id"),
    ("validations_validationrun", "output_expires_at"),
    ("validations_validationrun", "submission_id"),
    ("validations_validationrun", "status"),
    ("validations_validationsteprun", "validation_run_id"),
    ("validations_executionattempt", "step_run_id"),
    ("validations_artifact", "validation_run_id"),
    ("validations_validationfinding", "validation_run_id"),
    ("validations_resolvedinputtrace", "step_run_id"),
    ("validations_callbackreceipt", "validation_run_id"),
)
"""Columns of growing tables that jobs search by. Validibot has an index on each; without one a job
works, but slowly."""

FACTS = text(
    "SELECT current_setting('server_version') AS version,"
    " CAST(current_setting('server_version_num') AS integer) / 10000 AS major,"
    " current_database() AS name, current_user AS role,"
    " array_to_string(array_remove(current_schemas(false), 'pg_catalog'), ', ') AS schemas,"
    " pg_is_in_recovery() AS standby"
)

ABSENT = text(
    "SELECT w.name FROM unnest(CAST(:tables AS text[])) AS w(name)"
    " WHERE to_regclass(quote_ident(w.name)) IS NULL"
)

ELSEWHERE = text(
    "SELECT DISTINCT CAST(n.nspname AS text) FROM pg_class t"
    " JOIN pg_namespace n ON n.oid = t.relnamespace"
    " WHERE t.relname = ANY (CAST(:tables AS text[])) AND t.relkind IN ('r', 'p')"
    " AND to_regclass(quote_ident(t.relname)) IS NULL ORDER BY 1"
)


def database_check(settings: Settings) -> Check:
    """Return the check; parts that cannot be checked are reported as such."""
    bounded = settings.model_copy(
        update={
            "connect_timeout_seconds": CONNECT_SECONDS,
            "statement_timeout_seconds": STATEMENT_SECONDS,
        }
    )
    return Check(NAMES, lambda: _find(bounded))


def _find(settings: Settings) -> list[Finding]:
    try:
        check_session(settings, f"{APPLICATION} check")
        with transaction(engine_for(settings, "check"), read_only=True) as connection:
            facts = _facts(connection)
            hidden = hidden_schemas(connection, used_tables())
            if hidden:
                return [facts, *_hidden(hidden)]
            version, tables = _version(connection), _tables(connection)
            found = [facts, version, tables, _grants(connection)]
            if tables.level is Severity.ERROR:
                left = (INDEXES, CONTINUATIONS)
                return [*found, *not_checked(left, f"{TABLES} are not as expected")]
            indexes = _indexes(connection)
        return [*found, indexes, check_continuations(settings)]
    except DatabaseError as problem:
        action = (
            "check that the server runs and accepts connections from this machine, and that"
            " DATABASE_URL (or POSTGRES_*) has the right role, password and database"
        )
        failed = error(DATABASE, str(problem), action)
        return [failed, *not_checked(NAMES[1:], "the database cannot be asked")]


def _facts(connection: Connection) -> Finding:
    facts = connection.execute(FACTS).one()
    where = (
        f"PostgreSQL {facts.version}, database {facts.name}, schema {facts.schemas or 'none'},"
        f" role {facts.role}"
    )
    if facts.major < FIRST_VERSION:
        return error(DATABASE, where, f"the jobs need PostgreSQL {FIRST_VERSION} or newer")
    if facts.standby:
        return error(DATABASE, f"{where}: it is a standby", "connect to the primary")
    return ok(DATABASE, where)


def _version(connection: Connection) -> Finding:
    found = recognize(connection)
    if not found.differences:
        return ok(VERSION, str(found))
    action = "jobs that these differences concern refuse to run; update this project"
    return warning(VERSION, f"{found}: {'; '.join(found.differences)}", action)


def _tables(connection: Connection) -> Finding:
    found = {job: list(problems(connection, access)) for job, access in ACCESS.items()}
    listed = list(dict.fromkeys(chain.from_iterable(found.values())))
    if listed:
        names = used_tables()
        elsewhere = connection.execute(ELSEWHERE, {"tables": names}).scalars().all()
        if not elsewhere and len(_absent(connection, names)) == len(names):
            action = (
                "check that DATABASE_URL (or POSTGRES_DB) names Validibot's database, and that"
                " its migrations were applied"
            )
            return error(TABLES, "none of Validibot's tables is in this database", action)
        action = "update Validibot or this project so that their versions match; jobs refuse to run"
        if elsewhere:
            action = (
                f"tables of these names are in schema {', '.join(elsewhere)}: grant the role USAGE"
                " on the right one, and set the role's search_path"
            )
        jobs = ", ".join(job for job, texts in found.items() if texts)
        return error(TABLES, f"{_some(listed)} (used by {jobs})", action)
    written = {
        table
        for access in ACCESS.values()
        for table in (*access.update, *access.insert, *access.delete)
    }
    firing = triggers(connection, sorted(written))
    if firing:
        action = "check that they allow what the jobs write: a row that a trigger refuses fails"
        return warning(TABLES, f"triggers on {_some(firing)}", action)
    version = live_version(connection)
    used = {table for access in ACCESS.values() for table in access.in_version(version).columns()}
    number = len(used)
    return ok(TABLES, f"all {number} tables are as the jobs know them")


def _grants(connection: Connection) -> Finding:
    needed = {job: privileges_of(access) for job, access in ACCESS.items()}
    refused = lacking(connection, set().union(*needed.values()))
    version = live_version(connection)
    expected = [table for table in used_tables() if exists_in(version, table)]
    absent = _absent(connection, expected)
    if not refused and absent:
        tables = "1 table that is" if len(absent) == 1 else f"{len(absent)} tables that are"
        return warning(GRANTS, f"not checked of {tables} missing")
    if not refused:
        return ok(GRANTS, "the role has every privilege that the jobs need")
    jobs = ", ".join(job for job, privileges in needed.items() if privileges & set(refused))
    action = "grant them: docs/database-role.sql has all statements"
    return error(GRANTS, f"the role lacks {_some(as_grants(refused))} (needed by {jobs})", action)


def _hidden(schemas: list[str]) -> list[Finding]:
    """Return the findings when the role may not use the schemas that have the tables."""
    why = f"the role may not use schema {', '.join(schemas)}"
    grants = error(
        GRANTS,
        f"the role lacks {', '.join(f'USAGE ON SCHEMA {name}' for name in schemas)}",
        "grant it: docs/database-role.sql has all statements",
    )
    return [*not_checked((VERSION, TABLES), why), grants, *not_checked(NAMES[4:], why)]


def used_tables() -> list[str]:
    """Return the tables that any job uses, in any version of Validibot."""
    return list(dict.fromkeys(table for access in ACCESS.values() for table in access.columns()))


def _absent(connection: Connection, tables: list[str]) -> list[str]:
    return list(connection.execute(ABSENT, {"tables": tables}).scalars())


def _indexes(connection: Connection) -> Finding:
    missing = [
        f"CREATE INDEX CONCURRENTLY ON {table} ({column})"
        for table, column in SEARCHED
        if not has_index(connection, table, column)
    ]
    for expiring in EXPIRING:
        findings = missing_indexes(connection, expiring)
        missing += [one.rpartition(": ")[2] for one in findings]
    if not missing:
        return ok(INDEXES, "all indexes that the jobs need exist")
    number = len(set(missing))
    found = f"{number} {'is' if number == 1 else 'are'} missing, which slows jobs down"
    return warning(INDEXES, found, "; ".join(dict.fromkeys(missing)))


def _some(listed: Iterable[str]) -> str:
    found = list(listed)
    more = len(found) - MAX_NAMED
    return ", ".join(found[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
