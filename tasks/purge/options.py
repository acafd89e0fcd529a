"""What the tasks of a purge share: their options, the database and the stores, batch sizes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, text

from maintenance.budget import BatchSizer
from maintenance.database import engine_for
from maintenance.guard import check_held
from maintenance.settings import settings
from maintenance.storage.layout import Stores, open_stores
from maintenance.storage.missing import FileCount
from maintenance.storage.permit import Permit
from tasks.batching.table_scan import ScanCursor


@dataclass(frozen=True)
class PurgeOptions:
    """How a run works.

    Attributes:
        job: the job's name, which its database connections carry.
        batch_size: most items of a batch.
        retry_failed: also select items that wait for their next attempt after a failure.
        files: counts the files that the rows of the run name, over all its slices.
        candidates: the runs that a pass over their table has selected.
    """

    job: str
    batch_size: int
    retry_failed: bool = False
    files: FileCount = field(default_factory=FileCount, compare=False)
    candidates: ScanCursor = field(default_factory=ScanCursor, compare=False)


@dataclass(frozen=True)
class Purge:
    """Where to purge, and what.

    Attributes:
        job: the job's name.
        engine: the database.
        stores: where the files are.
        redact_traces: clear the payload-derived values of input traces too.
        with_uris: read which objects in buckets the runs' rows name as outputs; a purge of
            submissions keeps them.
    """

    job: str
    engine: Engine
    stores: Stores
    redact_traces: bool
    with_uris: bool

    def permit(self, connection: Connection) -> Permit:
        """Return the permit to delete files while this connection holds the claim on their rows.

        It asks the connection, which the server ends when its claim is lost, and the job's guard.
        """

        def ask() -> None:
            connection.execute(text("SELECT 1"))
            check_held(self.job)

        return Permit(ask)


@contextmanager
def open_purge(options: PurgeOptions, *, dry_run: bool = False) -> Iterator[Purge]:
    """Open what a purge needs, as the settings say, for the length of the block.

    Raises:
        StorageError: a storage root is missing, or not the application's.
    """
    current = settings()
    engine = engine_for(current, options.job)
    with open_stores(current, engine, write=not dry_run, count=options.files) as stores:
        yield Purge(
            options.job,
            engine,
            stores,
            current.redact_input_traces,
            with_uris=current.data_storage_backend != "local",
        )


def batch_sizer(options: PurgeOptions) -> BatchSizer:
    """Return the sizer of batches that change rows: it starts small and adapts."""
    return BatchSizer(options.batch_size, settings().batch_seconds)


def page_sizer(rows: int) -> BatchSizer:
    """Return the sizer of pages that are mostly read: it starts at full size."""
    return BatchSizer(rows, settings().batch_seconds, rows)
