"""What the tasks of reclaim-residue share: their options, and counting by kind (SPEC 10.12)."""

from dataclasses import dataclass, field

from maintenance.report import BatchResult, Reclaimed
from maintenance.storage.missing import FileCount
from tasks.purge.options import PurgeOptions

BUNDLES_OF_RUNS = "bundles of purged runs"
COPIED_INPUTS = "copied inputs of purged submissions"
BUNDLES_WITHOUT_RUN = "bundles without a run row"
ROWS_OF_RUNS = "rows of purged runs"
ROWS_OF_SUBMISSIONS = "rows of purged submissions"


@dataclass(frozen=True)
class ResidueOptions(PurgeOptions):
    """How a run works.

    Attributes:
        files: not checked: that files which stamped rows name are absent is what is expected.
        dry_run: only report what a run would do.
    """

    files: FileCount = field(default_factory=lambda: FileCount(accepted=True), compare=False)
    dry_run: bool = True


def of_kind(kind: str, result: BatchResult) -> BatchResult:
    """Count a result under a kind of residue."""
    if result.selected:
        result.reclaimed[kind] = Reclaimed(
            items=result.selected,
            rows=result.rows_by_table.total(),
            files=result.files,
            bytes=result.bytes,
        )
    return result
