"""Compares the live database's catalogue with what a job relies on (SPEC 2.11, 10.5).

A job runs only on plain tables with the columns and types that it knows, on rows that its role can
see, and without constraints that it does not know. Everything else ends the run before it has
touched anything: the identity of a row, what a DELETE takes along, or whether all rows are visible
would be a guess.
"""

from collections.abc import Iterator

from sqlalchemy import Connection, text

from maintenance.access import Access
from maintenance.errors import SchemaMismatch
from maintenance.privileges import as_grants, lacking, privileges_of
from maintenance.schema import metadata
from maintenance.schema.versions import live_version
from maintenance.unknown_constraints import unknown_references, unknown_required

RELATIONS = text(
    "SELECT w.name, c.oid IS NULL AS missing, current_user AS role,"
    " CASE WHEN c.relispartition THEN 'a partition' WHEN c.relkind = 'p' THEN 'a partitioned table'"
    "  WHEN c.relkind = 'v' THEN 'a view' WHEN c.relkind = 'm' THEN 'a materialized view'"
    "  WHEN c.relkind = 'f' THEN 'a foreign table'"
    "  WHEN EXISTS (SELECT 1 FROM pg_inherits WHERE inhparent = c.oid) THEN 'an inherited table'"
    "  WHEN EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = c.oid)"
    "   THEN 'a child of an inherited table' WHEN c.relkind <> 'r' THEN 'not a table' END AS kind,"
    " row_security_active(c.oid) AS hides_rows, ARRAY(SELECT CAST(r.rulename AS text)"
    "  FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN' ORDER BY 1) AS rules"
    " FROM unnest(CAST(:tables AS text[])) AS w(name)"
    " LEFT JOIN pg_class c ON c.oid = to_regclass(quote_ident(w.name)) ORDER BY w.name"
)

# Not information_schema, which hides what the role has no privilege on: a missing grant is not a
# missing column. A domain counts as the type that it is based on.
COLUMNS = text(
    "SELECT w.table_name, w.column_name, a.attname IS NULL AS missing,"
    " format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END, NULL) AS type,"
    " a.attgenerated <> '' OR a.attidentity = 'a' AS generated"
    " FROM unnest(CAST(:tables AS text[]), CAST(:columns AS text[])) AS w(table_name, column_name)"
    " JOIN pg_class c ON c.oid = to_regclass(quote_ident(w.table_name))"
    " LEFT JOIN pg_attribute a"
    "  ON a.attrelid = c.oid AND a.attname = w.column_name AND NOT a.attisdropped"
    " LEFT JOIN pg_type t ON t.oid = a.atttypid ORDER BY 1, 2"
)

HIDDEN = text(
    "SELECT DISTINCT CAST(n.nspname AS text) FROM pg_class t"
    " JOIN pg_namespace n ON n.oid = t.relnamespace"
    " WHERE t.relname = ANY (CAST(:tables AS text[])) AND t.relkind IN ('r', 'p')"
    " AND NOT has_schema_privilege(n.oid, 'USAGE')"
    " AND to_regclass(quote_ident(t.relname)) IS NULL ORDER BY 1"
)

TRIGGERS = text(
    "SELECT CAST(c.relname AS text) || ' (' || string_agg(g.tgname, ', ' ORDER BY g.tgname) || ')'"
    " FROM unnest(CAST(:tables AS text[])) AS w(name)"
    " JOIN pg_class c ON c.oid = to_regclass(quote_ident(w.name))"
    " JOIN pg_trigger g ON g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'"
    " GROUP BY c.relname ORDER BY 1"
)

GRANTS = "docs/database-role.sql"
INTERCHANGEABLE = ({"varchar", "text"}, {"smallint", "integer", "bigint"})
"""Types that a column may change to without effect on the jobs."""


def check_schema(connection: Connection, access: Access, *, writes: bool = True) -> None:
    """Check that the database is one that a job understands and may work on.

    Args:
        connection: of the job's role.
        access: what the job uses.
        writes: False for a dry run or a count, which needs no privilege to write.

    Raises:
        SchemaMismatch: it is not; the text names everything that is wrong.
    """
    hidden = hidden_schemas(connection, list(access.columns()))
    if hidden:
        message = f"role {_role(connection)} lacks USAGE ON SCHEMA {', '.join(hidden)}"
        raise SchemaMismatch(f"{message}: grant it as in {GRANTS}; nothing was touched")
    found = list(problems(connection, access))
    if found:
        message = f"this database is not the Validibot that the job knows: {', '.join(found)}"
        raise SchemaMismatch(f"{message}; nothing was touched")
    refused = lacking(connection, privileges_of(access, writes=writes))
    if refused:
        message = f"role {_role(connection)} lacks {', '.join(as_grants(refused))}"
        raise SchemaMismatch(f"{message}: grant it as in {GRANTS}; nothing was touched")


def problems(connection: Connection, access: Access) -> Iterator[str]:
    """Yield what a job cannot work with: of tables, columns and constraints.

    What only some versions of Validibot have is expected of a database that is one of them.
    """
    present = access.in_version(live_version(connection))
    yield from _of_tables(connection, present)
    yield from _of_columns(connection, present)
    yield from unknown_required(connection, present)
    yield from unknown_references(connection, present)


def hidden_schemas(connection: Connection, tables: list[str]) -> list[str]:
    """Return the schemas that have some of the tables, but that the role may not use.

    Without USAGE on their schema, tables seem to be missing.
    """
    return list(connection.execute(HIDDEN, {"tables": tables}).scalars())


def triggers(connection: Connection, tables: list[str]) -> list[str]:
    """Return the tables that have enabled triggers, with their names."""
    return list(connection.execute(TRIGGERS, {"tables": tables}).scalars())


def _role(connection: Connection) -> str:
    role: str = connection.execute(text("SELECT current_user")).scalar_one()
    return role


def _of_tables(connection: Connection, access: Access) -> Iterator[str]:
    for row in connection.execute(RELATIONS, {"tables": list(access.columns())}):
        if row.missing:
            yield f"table {row.name} is missing"
        elif row.kind:
            yield f"table {row.name} is {row.kind}, and the job handles plain tables only"
        elif row.rules:
            yield f"table {row.name} has rules ({', '.join(row.rules)}), which change statements"
        if row.hides_rows:
            yield (
                f"row-level security of table {row.name} may hide rows from role {row.role}"
                f" (ALTER ROLE {row.role} BYPASSRLS, as a superuser)"
            )


def _of_columns(connection: Connection, access: Access) -> Iterator[str]:
    written = {
        (table, name)
        for part in (access.update, access.insert)
        for table, names in part.items()
        for name in names
    }
    used = [(table, name) for table, names in access.columns().items() for name in names]
    names = {"tables": [table for table, _ in used], "columns": [name for _, name in used]}
    for row in connection.execute(COLUMNS, names):
        column = f"column {row.table_name}.{row.column_name}"
        if row.missing:
            yield f"{column} is missing"
            continue
        expected = _expected_type(connection, row.table_name, row.column_name)
        if expected and not _fits(row.type, expected):
            yield f"{column} has type {row.type} and not {expected}"
        if row.generated and (row.table_name, row.column_name) in written:
            yield f"{column} is generated, and the job writes it"


def _expected_type(connection: Connection, table: str, column: str) -> str | None:
    known = metadata.tables.get(table)
    if known is None or column not in known.columns:
        return None
    compiled: str = known.columns[column].type.compile(connection.dialect)
    return compiled.partition("(")[0].lower()


def _fits(live: str, expected: str) -> bool:
    name = live.replace("character varying", "varchar")
    return name == expected or any({name, expected} <= group for group in INTERCHANGEABLE)
