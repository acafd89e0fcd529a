"""Preflight of the database: it answers, its schema is known, and the role may do its work."""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, text

from maintenance.access import ACCESS, Access
from maintenance.checks.finding import Check, Finding, Severity, error, not_checked, ok, warning
from maintenance.database import APPLICATION, engine_for, transaction
from maintenance.errors import DatabaseError
from maintenance.expiring import EXPIRING
from maintenance.guard import check_session
from maintenance.indexes import TIME_INDEX, missing_indexes
from maintenance.settings import Settings

DATABASE, TABLES, GRANTS, INDEXES = "database", "tables and columns", "grants", "indexes"

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

# Not information_schema, which hides what the role has no privilege on: a missing grant is not a
# missing column.
MISSING = text(
    "SELECT w.table_name, CASE WHEN t.oid IS NULL THEN '' ELSE w.column_name END AS column_name"
    " FROM unnest(CAST(:tables AS text[]), CAST(:columns AS text[])) AS w(table_name, column_name)"
    " LEFT JOIN pg_class t ON t.oid = to_regclass(quote_ident(w.table_name))"
    " LEFT JOIN pg_attribute a"
    "  ON a.attrelid = t.oid AND a.attname = w.column_name AND NOT a.attisdropped"
    " WHERE a.attname IS NULL GROUP BY 1, 2 ORDER BY 1, 2"
)

ELSEWHERE = text(
    "SELECT DISTINCT CAST(n.nspname AS text) FROM pg_class t"
    " JOIN pg_namespace n ON n.oid = t.relnamespace"
    " WHERE t.relname = ANY (CAST(:tables AS text[])) AND t.relkind IN ('r', 'p')"
    " AND NOT n.nspname = ANY (current_schemas(true)) ORDER BY 1"
)

# A privilege on a table includes its columns. An empty column name stands for the table.
REFUSED = text(
    "SELECT r.table_name, r.privilege, r.column_name"
    " FROM unnest(CAST(:tables AS text[]), CAST(:columns AS text[]), CAST(:privileges AS text[]))"
    "  AS r(table_name, column_name, privilege)"
    " JOIN pg_class t ON t.oid = to_regclass(quote_ident(r.table_name))"
    " WHERE (r.column_name = '' AND NOT has_table_privilege(t.oid, r.privilege)) OR EXISTS ("
    "  SELECT 1 FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = r.column_name"
    "  AND NOT a.attisdropped AND NOT has_column_privilege(t.oid, a.attnum, r.privilege))"
    " ORDER BY 1, 2, 3"
)

Right = tuple[str, str, str]
"""A table, a column (empty for the table as a whole), and a privilege."""


def database_check(settings: Settings) -> Check:
    """Return the check; parts that cannot be checked are reported as such."""
    bounded = settings.model_copy(
        update={
            "connect_timeout_seconds": CONNECT_SECONDS,
            "statement_timeout_seconds": STATEMENT_SECONDS,
        }
    )
    return Check((DATABASE, TABLES, GRANTS, INDEXES), lambda: _find(bounded))


def _find(settings: Settings) -> list[Finding]:
    try:
        check_session(settings, f"{APPLICATION} check")
        with transaction(engine_for(settings, "check"), read_only=True) as connection:
            facts, tables = _facts(connection), _tables(connection)
            grants = _grants(connection)
            if tables.level is Severity.OK:
                return [facts, tables, grants, _indexes(connection)]
            return [facts, tables, grants, *not_checked([INDEXES], f"{TABLES} are missing")]
    except DatabaseError as problem:
        action = (
            "check that the server runs and accepts connections from this machine, and that"
            " DATABASE_URL (or POSTGRES_*) has the right role, password and database"
        )
        found = error(DATABASE, str(problem), action)
        others = not_checked((TABLES, GRANTS, INDEXES), "the database cannot be asked")
        return [found, *others]


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


def _tables(connection: Connection) -> Finding:
    used = used_columns()
    pairs = [(table, column) for table, columns in used.items() for column in sorted(columns)]
    names = {"tables": [table for table, _ in pairs], "columns": [column for _, column in pairs]}
    missing = connection.execute(MISSING, names).all()
    if not missing:
        return ok(TABLES, f"all {len(used)} tables have the columns that jobs use")
    absent = [row.table_name for row in missing if not row.column_name]
    action = "update Validibot or this project so that their versions match; jobs refuse to run"
    elsewhere = connection.execute(ELSEWHERE, {"tables": absent}).scalars().all()
    if elsewhere:
        action = (
            f"tables of these names are in schema {', '.join(elsewhere)}: grant the role USAGE on"
            " the right one, and set the role's search_path"
        )
    listed = [
        f"column {row.table_name}.{row.column_name}" if row.column_name else f"table {row[0]}"
        for row in missing
    ]
    jobs = _jobs({(row.table_name, row.column_name) for row in missing})
    return error(TABLES, f"missing: {_some(listed)} (used by {jobs})", action)


def _grants(connection: Connection) -> Finding:
    rights = sorted({right for access in ACCESS.values() for right in rights_of(access)})
    columns = list(zip(*rights, strict=True))
    given = dict(zip(("tables", "columns", "privileges"), map(list, columns), strict=True))
    refused = connection.execute(REFUSED, given).all()
    if not refused:
        return ok(GRANTS, "the role has every privilege that the jobs need")
    grouped: dict[tuple[str, str], list[str]] = {}
    for table, privilege, column in refused:
        grouped.setdefault((table, privilege), []).append(column)
    listed = [
        f"{privilege} ({', '.join(names)}) ON {table}" if any(names) else f"{privilege} ON {table}"
        for (table, privilege), names in grouped.items()
    ]
    lacking = {(table, column, privilege) for table, privilege, column in refused}
    jobs = ", ".join(job for job, access in ACCESS.items() if rights_of(access) & lacking)
    action = "grant them: docs/database-role.sql has all statements"
    return error(GRANTS, f"the role lacks {_some(listed)} (needed by {jobs})", action)


def _indexes(connection: Connection) -> Finding:
    missing = [
        f"CREATE INDEX CONCURRENTLY ON {table} ({column})"
        for table, column in SEARCHED
        if not connection.execute(TIME_INDEX, {"table": table, "column": column}).scalar_one()
    ]
    for expiring in EXPIRING:
        findings = missing_indexes(connection, expiring)
        missing += [one.rpartition(": ")[2] for one in findings]
    if not missing:
        return ok(INDEXES, "all indexes that the jobs need exist")
    number = len(set(missing))
    found = f"{number} {'is' if number == 1 else 'are'} missing, which slows jobs down"
    return warning(INDEXES, found, "; ".join(dict.fromkeys(missing)))


def used_columns(jobs: Mapping[str, Access] = ACCESS) -> dict[str, set[str]]:
    """Return every column that jobs use, by table."""
    used: dict[str, set[str]] = {}
    for access in jobs.values():
        for table, columns in access.columns().items():
            used.setdefault(table, set()).update(columns)
    return dict(sorted(used.items()))


def rights_of(access: Access) -> set[Right]:
    """Return every privilege that a job needs."""
    by_column = (("SELECT", access.select), ("UPDATE", access.update), ("INSERT", access.insert))
    rights = {
        (table, column, privilege)
        for privilege, part in by_column
        for table, columns in part.items()
        for column in columns
    }
    return rights | {(table, "", "DELETE") for table in access.delete}


def _jobs(missing: set[tuple[str, str]]) -> str:
    """Return the jobs that use missing columns or tables."""
    return ", ".join(
        job
        for job, access in ACCESS.items()
        if any(
            (table, "") in missing or (table, column) in missing
            for table, columns in access.columns().items()
            for column in columns or {""}
        )
    )


def _some(listed: Iterable[str]) -> str:
    found = list(listed)
    more = len(found) - MAX_NAMED
    return ", ".join(found[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
