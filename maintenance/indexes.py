"""The indexes that deleting by age needs, searched for in the live catalogue.

A missing index makes a job slow but is no error: it is a warning with the statement that creates
it. CONCURRENTLY lets the application go on writing while the index is built.
"""

from sqlalchemy import Connection, text

from maintenance.expiring import ExpiringTable

INDEX = text(
    "SELECT EXISTS (SELECT 1 FROM pg_index i"
    " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam"
    " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]"
    " WHERE i.indrelid = to_regclass(:table) AND a.attname = :column"
    " AND m.amname = 'btree' AND i.indisvalid AND i.indpred IS NULL)"
)

# An index serves a foreign key when its leading columns are those of the key, in any order.
UNINDEXED_REFERENCES = text(
    "SELECT f.conrelid::regclass::text AS name, ARRAY("
    "  SELECT quote_ident(a.attname) FROM unnest(f.conkey) WITH ORDINALITY AS k(number, place)"
    "  JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number ORDER BY k.place"
    " ) AS columns"
    " FROM pg_constraint f WHERE f.contype = 'f' AND f.confrelid = to_regclass(:table)"
    " AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = f.conrelid"
    "  AND i.indisvalid AND i.indpred IS NULL"
    "  AND (i.indkey::int2[])[0:cardinality(f.conkey) - 1] @> f.conkey)"
    " ORDER BY f.conname"
)


def has_index(connection: Connection, table: str, column: str) -> bool:
    """Return whether a valid B-tree index starts with the column."""
    found: bool = connection.execute(INDEX, {"table": table, "column": column}).scalar_one()
    return found


def has_time_index(connection: Connection, expiring: ExpiringTable) -> bool:
    """Return whether a valid B-tree index starts with the time column."""
    return has_index(connection, expiring.table.name, expiring.time.name)


def missing_indexes(connection: Connection, expiring: ExpiringTable) -> list[str]:
    """Return the missing indexes, each with the statement that creates it.

    Needed are an index on the time column and one on every foreign key that references the table,
    because PostgreSQL searches the referencing table once for every deleted row.
    """
    table = expiring.table.name
    findings = []
    if not has_time_index(connection, expiring):
        findings.append(
            f"{table}.{expiring.time.name} has no index, so every run reads the whole table:"
            f" CREATE INDEX CONCURRENTLY ON {table} ({expiring.time.name})"
        )
    for name, columns in connection.execute(UNINDEXED_REFERENCES, {"table": table}):
        keys = ", ".join(columns)
        findings.append(
            f"{name} references {table} by ({keys}) without an index, so every deleted row reads"
            f" all of it: CREATE INDEX CONCURRENTLY ON {name} ({keys})"
        )
    return findings
