"""How the live tables differ from those of the versions of Validibot that are known (SPEC 10.5).

The jobs check what they use by themselves. This comparison is complete, for the operator: it also
shows what no job minds yet.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Table, text

from maintenance.access import ACCESS
from maintenance.schema import metadata
from maintenance.schema.base import Version
from maintenance.schema.versions import exists_in, live_version
from maintenance.unknown_constraints import REFERENCES, known_references, written_tables

COLUMNS = text(
    "SELECT w.name AS table_name, c.oid IS NULL AS missing, CAST(a.attname AS text) AS column_name,"
    " format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,"
    " a.atthasdef OR a.attidentity <> '' AS filled"
    " FROM unnest(CAST(:tables AS text[])) AS w(name)"
    " LEFT JOIN pg_class c ON c.oid = to_regclass(quote_ident(w.name))"
    " LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    " ORDER BY w.name, a.attnum"
)

INTEGERS = ("smallint", "integer", "bigint")


@dataclass(frozen=True)
class Recognized:
    """Which version a database is taken for, and how it differs from it."""

    version: Version
    differences: tuple[str, ...]

    def __str__(self) -> str:
        """Return it in one line, without the differences."""
        if not self.differences:
            return f"the tables are those of Validibot {self.version}"
        known = " or ".join(Version)
        number = len(self.differences)
        return (
            f"the tables are not those of Validibot {known}; nearest is {self.version}, with"
            f" {number} difference{'' if number == 1 else 's'}"
        )


def recognize(connection: Connection) -> Recognized:
    """Compare the live tables with those of the version that they are nearest to.

    Compared are tables, columns, types, NOT NULL, and the foreign keys of the tables that jobs
    write. A table that no job uses does not count.
    """
    version = live_version(connection)
    tables = [name for name in metadata.tables if exists_in(version, name)]
    found = [
        *_of_columns(connection, version, sorted(tables)),
        *_of_references(connection, version),
    ]
    return Recognized(version, tuple(found))


def _of_columns(connection: Connection, version: Version, tables: list[str]) -> Iterator[str]:
    expected = {
        (table, column.name): column
        for table in tables
        for column in metadata.tables[table].columns
        if exists_in(version, table, column.name)
    }
    absent: set[str] = set()
    for row in connection.execute(COLUMNS, {"tables": tables}).all():
        if row.missing:
            absent.add(row.table_name)
            yield f"table {row.table_name} is missing"
            continue
        name = f"column {row.table_name}.{row.column_name}"
        column = expected.pop((row.table_name, row.column_name), None)
        if column is None:
            if row.column_name in metadata.tables[row.table_name].columns:
                continue  # A release between two known versions still has it.
            needed = " NOT NULL without a default" if row.required and not row.filled else ""
            yield f"{name} is unknown ({row.type}{needed})"
            continue
        wanted = _type_of(connection, column)
        if not _same(row.type, wanted, column):
            yield f"{name} has type {row.type} and not {wanted}"
        if row.required is column.nullable:
            yield f"{name} {'is NOT NULL' if row.required else 'allows NULL'}"
    for table, missing in expected:
        if table not in absent:
            yield f"column {table}.{missing} is missing"


def _of_references(connection: Connection, version: Version) -> Iterator[str]:
    written = [
        table
        for table in dict.fromkeys(
            name for access in ACCESS.values() for name in written_tables(access)
        )
        if exists_in(version, table)
    ]
    deleted = list(dict.fromkeys(name for access in ACCESS.values() for name in access.delete))
    tables = {"deleted": deleted, "written": written}
    known = known_references()
    live = {
        (row.source_name, tuple(row.columns), row.target_name)
        for row in connection.execute(REFERENCES, tables)
    }
    for source, columns, target in sorted(live - known):
        yield f"table {source} refers by ({', '.join(columns)}) to {target}, which is unknown"
    for table in written:
        yield from _missing_references(metadata.tables[table], live)


def _missing_references(table: Table, live: set[tuple[str, tuple[str, ...], str]]) -> Iterator[str]:
    for key in table.foreign_key_constraints:
        columns, target = tuple(key.column_keys), key.referred_table.name
        if (table.name, columns, target) not in live:
            yield f"table {table.name} does not refer by ({', '.join(columns)}) to {target}"


def _type_of(connection: Connection, column: Column[object]) -> str:
    compiled: str = column.type.compile(connection.dialect)
    return compiled.lower().replace("varchar", "character varying")


def _same(live: str, wanted: str, column: Column[object]) -> bool:
    if wanted.endswith("[]"):
        # The length of an array's elements is not recorded.
        return live.partition("(")[0].removesuffix("[]") == wanted.removesuffix("[]")
    return live == wanted or (column.identity is not None and {live, wanted} <= set(INTEGERS))
