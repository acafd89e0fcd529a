"""How repairs are counted in a report: deadlines that were written, purges that were queued."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Table

from maintenance.report import BatchResult
from maintenance.schema import purge_retries


def deadlines_repaired(
    table: Table, name: str, rows: Sequence[Row[*tuple[Any, ...]]]
) -> BatchResult:
    """Return the result of repairing these rows, which have the columns policy and unknown.

    Args:
        table: the table of the rows.
        name: what the report calls the repair.
        rows: the rows.
    """
    result = BatchResult()
    if rows:
        result.repaired[name] = result.rows_by_table[table.name] = len(rows)
    result.unknown_policies = Counter(row.policy for row in rows if row.unknown)
    return result


def purges_queued(number: int) -> BatchResult:
    """Return the result of queueing so many purges."""
    result = BatchResult()
    if number:
        result.repaired["purges queued"] = result.rows_by_table[purge_retries.name] = number
    return result
