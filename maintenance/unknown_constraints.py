"""Constraints in the live database that a job does not know, and must not meet (SPEC 10.5).

In a table that a job writes or deletes from, an unknown column that must not be NULL, or an unknown
foreign key, means that Validibot does something with its rows that the job knows nothing of.
"""

from collections.abc import Iterator

from sqlalchemy import Connection, text

from maintenance.access import Access
from maintenance.schema import metadata
from maintenance.schema.base import REFERS_TO

REQUIRED = text(
    "SELECT CAST(c.relname AS text) AS table_name, CAST(a.attname AS text) AS column_name"
    " FROM unnest(CAST(:tables AS text[])) AS w(name)"
    " JOIN pg_class c ON c.oid = to_regclass(quote_ident(w.name))"
    " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    " JOIN pg_type t ON t.oid = a.atttypid"
    " WHERE (a.attnotnull OR t.typnotnull) AND NOT a.atthasdef AND a.attidentity = ''"
    " AND t.typdefault IS NULL ORDER BY 1, 2"
)

REFERENCES = text(
    "SELECT CAST(f.conrelid::regclass AS text) AS source, CAST(s.relname AS text) AS source_name,"
    " CAST(f.confrelid::regclass AS text) AS target, CAST(t.relname AS text) AS target_name,"
    " ARRAY(SELECT CAST(a.attname AS text)"
    "  FROM unnest(f.conkey) WITH ORDINALITY AS k(number, place) JOIN pg_attribute a"
    "  ON a.attrelid = f.conrelid AND a.attnum = k.number ORDER BY k.place) AS columns,"
    " f.confrelid = ANY (d.oids) AS to_deleted"
    " FROM (SELECT ARRAY(SELECT CAST(to_regclass(quote_ident(name)) AS oid)"
    "   FROM unnest(CAST(:deleted AS text[])) AS w(name)) AS oids) AS d"
    " CROSS JOIN (SELECT ARRAY(SELECT CAST(to_regclass(quote_ident(name)) AS oid)"
    "   FROM unnest(CAST(:written AS text[])) AS w(name)) AS oids) AS u"
    " JOIN pg_constraint f ON f.contype = 'f' AND f.conparentid = 0"
    "  AND (f.confrelid = ANY (d.oids) OR f.conrelid = ANY (u.oids))"
    " JOIN pg_class s ON s.oid = f.conrelid JOIN pg_class t ON t.oid = f.confrelid"
    " ORDER BY to_deleted DESC, 3, 1, 5"
)

Reference = tuple[str, tuple[str, ...], str]
"""A table, its columns, and the table that they refer to."""


def written_tables(access: Access) -> list[str]:
    """Return the tables that a job writes or deletes from."""
    return list(dict.fromkeys([*access.update, *access.insert, *access.delete]))


def known_references() -> set[Reference]:
    """Return the foreign keys of all known tables, those to tables that no job uses included."""
    known: set[Reference] = set()
    for table in metadata.tables.values():
        for key in table.foreign_key_constraints:
            known.add((table.name, tuple(key.column_keys), key.referred_table.name))
        for column in table.columns:
            if REFERS_TO in column.info:
                known.add((table.name, (column.name,), column.info[REFERS_TO]))
    return known


def unknown_required(connection: Connection, access: Access) -> Iterator[str]:
    """Yield the NOT NULL columns without a default that a job does not know in what it writes."""
    for row in connection.execute(REQUIRED, {"tables": written_tables(access)}):
        table, column = row.table_name, row.column_name
        known = metadata.tables.get(table)
        if table in access.insert:
            understood, does = column in access.insert[table], "inserts rows there"
        else:
            understood = known is None or column in known.columns
            does = "deletes rows there" if table in access.delete else "changes rows there"
        if not understood:
            yield (
                f"column {table}.{column} is NOT NULL without a default and unknown to the job,"
                f" which {does}"
            )


def unknown_references(connection: Connection, access: Access) -> Iterator[str]:
    """Yield the unknown foreign keys to tables that a job deletes from, and of those it writes."""
    known = known_references()
    tables = {"deleted": list(access.delete), "written": written_tables(access)}
    for row in connection.execute(REFERENCES, tables):
        if (row.source_name, tuple(row.columns), row.target_name) in known:
            continue
        written, deleted = "", ", where the job deletes rows"
        if not row.to_deleted:
            written, deleted = ", which the job writes,", ""
        yield (
            f"table {row.source}{written} refers by ({', '.join(row.columns)}) to {row.target}"
            f"{deleted}, and the job does not know this foreign key"
        )
