"""Ending a run of which the database refuses every row (SPEC 10.7).

One refused row is that row's failure, and the others go on. When very many rows in a row are
refused and none is accepted, the cause is not in the rows: for instance a trigger that writes to a
table that the role may not write to. Then the run must not try a million of them.
"""

from dataclasses import dataclass

from maintenance.errors import DatabaseError
from maintenance.report import BatchResult

MOST = 2_000
"""Rows that are refused in a row before the run ends."""


@dataclass
class Refusals:
    """Counts the rows that the database has refused since it accepted one."""

    rows: int = 0

    def count(self, result: BatchResult) -> None:
        """Count what a slice did.

        Raises:
            DatabaseError: too many rows in a row were refused.
        """
        self.rows = 0 if result.done or result.repaired else self.rows + result.refused
        if self.rows < MOST:
            return
        cause = result.failures[-1].cause if result.failures else "see the report"
        message = (
            f"the database refused {self.rows:,} rows in a row and accepted none, so the cause is"
            f" hardly in the rows; the last one: {cause}"
        )
        raise DatabaseError(message)
