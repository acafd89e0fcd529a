"""Writing a chunk: rows with COPY, and many small files quickly."""

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from pathlib import Path

from psycopg import Connection, sql
from sqlalchemy import Table

from demo.sample.chunk import Row
from maintenance.schema.base import Version
from maintenance.schema.versions import exists_in


def copy_rows(
    connection: Connection, rows: Mapping[Table, Sequence[Row]], version: Version
) -> None:
    """Copy the rows in one transaction, in any order: the foreign keys are deferred.

    What the version of the tables does not have is left out.
    """
    with connection.transaction(), connection.cursor() as cursor:
        for table, table_rows in rows.items():
            present = [exists_in(version, table.name, column.name) for column in table.columns]
            if not any(present):
                continue
            names = compress(table.columns.keys(), present)
            statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
                sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, names))
            )
            whole = all(present)
            with cursor.copy(statement) as copy:
                for row in table_rows:
                    copy.write_row(row if whole else tuple(compress(row, present)))


def continue_numbering(connection: Connection, tables: Sequence[Table]) -> None:
    """Set the identity sequences to the highest key that was copied."""
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


def write_files(root: Path, files: Iterable[tuple[str, bytes]]) -> int:
    """Create files below a root and return how many bytes were written."""
    written = 0
    for name, content in files:
        path = f"{root}/{name}"
        try:
            handle = _create(path)
        except FileNotFoundError:
            # Most folders hold several files, so a check before each file would cost more.
            _make_folder(path.rpartition("/")[0])
            handle = _create(path)
        try:
            if os.write(handle, content) != len(content):
                raise OSError(f"{path} was written only in part")
        finally:
            os.close(handle)
        written += len(content)
    return written


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)


def _make_folder(path: str) -> None:
    try:
        os.mkdir(path)  # noqa: PTH102 - a Path object costs more than the call
    except FileNotFoundError:
        _make_folder(path.rpartition("/")[0])
        os.mkdir(path)  # noqa: PTH102
