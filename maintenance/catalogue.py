"""Compares the live database's catalogue with the columns that a job uses (SPEC 2.11)."""

from sqlalchemy import Connection, text

from maintenance.access import Access
from maintenance.errors import SchemaMismatch

COLUMNS = text(
    "SELECT table_name, column_name FROM information_schema.columns"
    " WHERE table_schema = ANY (current_schemas(false)) AND table_name = ANY (:tables)"
)


def check_columns(connection: Connection, access: Access) -> None:
    """Check that every column that a job uses is visible to its role.

    Raises:
        SchemaMismatch: some are missing, or the role has no privilege on them.
    """
    used = access.columns()
    found: dict[str, set[str]] = {}
    for table, column in connection.execute(COLUMNS, {"tables": list(used)}):
        found.setdefault(table, set()).add(column)
    missing = [f"table {table}" for table in sorted(used) if table not in found]
    missing += [
        f"column {table}.{column}"
        for table in sorted(found)
        for column in sorted(used[table] - found[table])
    ]
    if missing:
        message = (
            f"this database is not the Validibot that the job knows: {', '.join(missing)} missing"
            " (or not granted to this role); nothing was touched"
        )
        raise SchemaMismatch(message)
