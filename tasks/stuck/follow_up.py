"""The follow-up of runs that have timed out: containers and finalization (SPEC 6.3, 6.4).

Also done for runs that an earlier run of the job timed out and could not finalize, because of a
crash or a storage failure.
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
from tasks.batching.claims import selected
from tasks.stuck.containers import ContainerStopper
from tasks.stuck.finalization import finalize


class FollowUp:
    """Follows up timed out runs. Storage and container engine are opened for the first of them."""

    def __init__(self, engine: Engine, settings: Settings, opened: ExitStack) -> None:
        """Keep the database, and the stack that closes what is opened."""
        self._engine = engine
        self._settings = settings
        self._opened = opened
        self._stores: Stores | None = None
        self._containers = ContainerStopper(settings, opened)

    def start(self, run_ids: Sequence[UUID], execution_ids: Sequence[str]) -> BatchResult:
        """Start to stop the containers of these runs, and finalize the runs.

        Every run is counted: as selected, and as done, failed, deferred or skipped. Their time-out
        is committed, so an error here is a failure of each run, which the next run of the job
        follows up again.
        """
        if not run_ids:
            return BatchResult()
        result = self._containers.stop(run_ids, execution_ids)
        try:
            if self._stores is None:
                stores = open_stores(self._settings, self._engine)
                self._stores = self._opened.enter_context(stores)
            result += finalize(self._engine, self._stores, run_ids)
        except MaintenanceError as error:
            result += selected(run_ids)
            for run_id in run_ids:
                result.fail(f"run {run_id}", f"timed out, but not finalized yet: {error}")
        return result

    def wait(self) -> BatchResult:
        """Wait for the containers; return what became of them."""
        return self._containers.wait()

    def preview(self, run_ids: Sequence[UUID], execution_ids: Sequence[str]) -> BatchResult:
        """Return which containers `start` would stop."""
        return self._containers.preview(run_ids, execution_ids)


@contextmanager
def open_follow_up(engine: Engine, settings: Settings) -> Iterator[FollowUp]:
    """Return a follow-up for the length of the block."""
    with ExitStack() as opened:
        yield FollowUp(engine, settings, opened)


def execution_ids_of(connection: Connection, run_ids: Sequence[UUID]) -> list[str]:
    """Return the providers' names of the executions that timed out with these runs."""
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
