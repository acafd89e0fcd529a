"""Which tables and columns exist in which version of Validibot.

The one source of it are the marks in the table definitions (`since`, `until`). What is not marked
exists in every known version. A job uses what is marked only in a database that has it.
"""

from functools import cache

from sqlalchemy import CheckConstraint, Column, Connection, Engine, MetaData, Table, text

from maintenance.schema import metadata
from maintenance.schema.base import NEWEST, OLDEST, SINCE, UNTIL, Version

ANY_PRESENT = text(
    "SELECT EXISTS (SELECT 1"
    " FROM unnest(CAST(:tables AS text[]), CAST(:columns AS text[])) AS w(table_name, column_name)"
    " JOIN pg_attribute a ON a.attrelid = to_regclass(quote_ident(w.table_name))"
    " AND a.attname = w.column_name AND NOT a.attisdropped)"
)


ENDLESS = "9"
"""Greater than every version."""


def since(item: Table | Column[object] | CheckConstraint) -> Version:
    """Return the first known version that has a table, a column or a check."""
    first: Version = item.info.get(SINCE, OLDEST)
    return first


def exists_in(version: Version, table: str, column: str | None = None) -> bool:
    """Return whether a version has a table, or a column of it; what is not known counts as so."""
    known = metadata.tables.get(table)
    if known is None:
        return True
    if column is None or column not in known.columns:
        return since(known) <= version
    return since(known) <= version and _has(version, known.columns[column])


def _has(version: Version, column: Column[object]) -> bool:
    end: str = column.info.get(UNTIL, ENDLESS)
    return since(column) <= version < end


def metadata_of(version: Version) -> MetaData:
    """Return the tables of a version, to be created."""
    tables = MetaData()
    for table in metadata.tables.values():
        if since(table) > version:
            continue
        made = table.to_metadata(tables)
        for column in made.columns:
            # A "system" column is not created; nothing but a check refers to one of these.
            column.system = not _has(version, column)
        for check in [one for one in made.constraints if isinstance(one, CheckConstraint)]:
            if since(check) > version:
                made.constraints.discard(check)
    return tables


def live_version(connection: Connection) -> Version:
    """Return which known version a database is nearest to.

    It is the newest one of which it has anything that older versions lack. Whether it has all of it
    is for the check of the schema to say.
    """
    for version in reversed(Version):
        tables, columns = _new_in(version)
        names = {"tables": tables, "columns": columns}
        if tables and connection.execute(ANY_PRESENT, names).scalar_one():
            return version
    return OLDEST


@cache
def _new_in(version: Version) -> tuple[list[str], list[str]]:
    found = [
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.columns
        if version > OLDEST and max(since(table), since(column)) == version
    ]
    return [table for table, _ in found], [column for _, column in found]


def create_tables(engine: Engine, version: Version = NEWEST) -> None:
    """Create the tables of a version in an empty database."""
    metadata_of(version).create_all(engine)
