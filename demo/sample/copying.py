"""Bringing rows into the database with COPY."""

from collections.abc import Mapping, Sequence

from psycopg import Connection, sql
from sqlalchemy import Table

from demo.sample.chunk import Row


def copy_rows(connection: Connection, rows: Mapping[Table, Sequence[Row]]) -> None:
    """Copy the rows in one transaction; foreign keys are deferred, so any order will do."""
    with connection.transaction(), connection.cursor() as cursor:
        for table, table_rows in rows.items():
            statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
                sql.Identifier(table.name),
                sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns),
            )
            with cursor.copy(statement) as copy:
                for row in table_rows:
                    copy.write_row(row)


def continue_numbering(connection: Connection, tables: Sequence[Table]) -> None:
    """Let the identity keys go on after the highest that was copied."""
    for table in tables:
        for column in table.columns:
            if column.identity is not None:
                connection.execute(
                    sql.SQL(
                        "SELECT setval(pg_get_serial_sequence({}, {}), max({})) FROM {}"
                        " HAVING count(*) > 0"
                    ).format(
                        sql.Literal(table.name),
                        sql.Literal(column.name),
                        sql.Identifier(column.name),
                        sql.Identifier(table.name),
                    )
                )
