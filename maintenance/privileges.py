"""The privileges that jobs need, and which of them the role lacks."""

from collections.abc import Iterable

from sqlalchemy import Connection, text

from maintenance.access import Access

# A privilege on a table includes its columns. An empty column name stands for the table.
LACKING = text(
    "SELECT r.table_name, r.column_name, r.privilege"
    " FROM unnest(CAST(:tables AS text[]), CAST(:columns AS text[]), CAST(:privileges AS text[]))"
    "  AS r(table_name, column_name, privilege)"
    " JOIN pg_class t ON t.oid = to_regclass(quote_ident(r.table_name))"
    " WHERE (r.column_name = '' AND NOT has_table_privilege(t.oid, r.privilege)) OR EXISTS ("
    "  SELECT 1 FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = r.column_name"
    "  AND NOT a.attisdropped AND NOT has_column_privilege(t.oid, a.attnum, r.privilege))"
    " ORDER BY r.table_name, r.privilege, r.column_name"
)

Privilege = tuple[str, str, str]
"""A table, a column (empty for the table as a whole), and the privilege's name."""


def privileges_of(access: Access, *, writes: bool = True) -> set[Privilege]:
    """Return every privilege that a job needs, or those of a dry run."""
    parts = {"SELECT": access.select}
    if writes:
        parts |= {"UPDATE": access.update, "INSERT": access.insert}
    needed = {
        (table, column, privilege)
        for privilege, part in parts.items()
        for table, columns in part.items()
        for column in columns
    }
    return needed | {(table, "", "DELETE") for table in access.delete if writes}


def lacking(connection: Connection, needed: Iterable[Privilege]) -> list[Privilege]:
    """Return the privileges that the role lacks; missing tables and columns do not count."""
    wanted = sorted(needed)
    names = ("tables", "columns", "privileges")
    given = {name: [one[place] for one in wanted] for place, name in enumerate(names)}
    return [(table, column, name) for table, column, name in connection.execute(LACKING, given)]


def guarded(condition: str, statements: Iterable[str], mark: str = "$$") -> list[str]:
    """Return the lines of a block that executes statements only where a condition holds.

    Args:
        condition: in SQL.
        statements: lines that do not contain the mark.
        mark: the quotation mark of the block.
    """
    inside = [f"    {line}" for line in statements]
    return [f"DO {mark} BEGIN", f"IF {condition} THEN", *inside, "END IF;", f"END {mark};"]


def as_grants(privileges: Iterable[Privilege]) -> list[str]:
    """Return privileges as GRANT writes them: one text for each table and privilege."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for table, column, privilege in privileges:
        grouped.setdefault((table, privilege), []).append(column)
    return [
        f"{privilege} ({', '.join(names)}) ON {table}" if any(names) else f"{privilege} ON {table}"
        for (table, privilege), names in grouped.items()
    ]
