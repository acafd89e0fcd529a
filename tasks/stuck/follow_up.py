"""What follows once runs are ended: their containers stop, and they are finished (SPEC 6.3, 6.4).

Also for runs of earlier runs of the job that a crash, or a storage that was away, left unfinished.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from uuid import UUID

from sqlalchemy import Connection, Engine, select

from maintenance.errors import MaintenanceError
from maintenance.report import BatchResult
from maintenance.schema import attempts, step_runs
from maintenance.settings import Settings
from maintenance.storage.layout import Stores, open_stores
from maintenance.timed_out import ATTEMPT_ERROR_CODE
from tasks.batching.arrays import any_uuid
from tasks.stuck.containers import ContainerStopper
from tasks.stuck.finalization import finalize


class Finisher:
    """Finishes ended runs. Storage and engine are opened when the first run needs them."""

    def __init__(self, engine: Engine, settings: Settings, opened: ExitStack) -> None:
        """Name the database, and the stack that closes what is opened."""
        self._engine = engine
        self._settings = settings
        self._opened = opened
        self._stores: Stores | None = None
        self._containers = ContainerStopper(settings, opened)

    def finish(self, run_ids: Sequence[UUID], execution_ids: Sequence[str]) -> BatchResult:
        """Stop the containers of these runs, write their evidence, compute their deadlines.

        Every one is counted: as selected, and as done, failed, deferred or skipped. That they have
        ended is committed, so no failure here is an error of the whole: it is one of each run,
        which the next run of the job takes up.
        """
        if not run_ids:
            return BatchResult()
        result = self._containers.stop(run_ids, execution_ids)
        try:
            if self._stores is None:
                self._stores = self._opened.enter_context(open_stores(self._settings))
            result += finalize(self._engine, self._stores, run_ids)
        except MaintenanceError as error:
            result += selected(run_ids)
            for run_id in run_ids:
                result.fail(f"run {run_id}", f"ended, and not finished yet: {error}")
        return result

    def wait(self) -> BatchResult:
        """Wait for the containers; return what became of them."""
        return self._containers.wait()

    def preview(self, run_ids: Sequence[UUID], execution_ids: Sequence[str]) -> BatchResult:
        """Return which containers `finish` would stop."""
        return self._containers.preview(run_ids, execution_ids)


@contextmanager
def open_finisher(engine: Engine, settings: Settings) -> Iterator[Finisher]:
    """Make a finisher for the length of the block."""
    with ExitStack() as opened:
        yield Finisher(engine, settings, opened)


def execution_ids_of(connection: Connection, run_ids: Sequence[UUID]) -> list[str]:
    """Return what providers call the executions of the attempts that ended with these runs."""
    found = (
        select(attempts.c.provider_execution_id)
        .join(step_runs, attempts.c.step_run_id == step_runs.c.id)
        .where(
            step_runs.c.validation_run_id == any_uuid(run_ids),
            attempts.c.last_error_code == ATTEMPT_ERROR_CODE,
            attempts.c.provider_execution_id != "",
        )
    )
    return [row.provider_execution_id for row in connection.execute(found)]


def selected(run_ids: Sequence[UUID]) -> BatchResult:
    """Return the result that begins with these runs being selected."""
    return BatchResult.selecting([run_id.int for run_id in run_ids])
