"""Stopping the containers of runs that have timed out (SPEC 6.3).

A run's containers are those that its attempt's provider named, and those that carry its label. A
validator that hangs usually ignores SIGTERM and takes its whole grace period, so containers are
stopped in threads while the next runs are worked on, and waited for once.

A container engine that does not answer is a warning: the runs have timed out all the same, and
cleanup-orphaned-containers removes the containers once the container engine answers.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from uuid import UUID

from maintenance import stop_request
from maintenance.containers.engine import IDENTIFIER, ContainerEngine, ContainerRemoval, open_engine
from maintenance.containers.managed import ManagedContainer
from maintenance.errors import ContainerError, EngineNotConfigured
from maintenance.report import BatchResult
from maintenance.settings import Settings

GRACE_SECONDS = 10
"""Seconds that a container has to end before it is killed."""

AT_ONCE = 8
"""Containers that are stopped at a time: most of it is waiting for the grace period."""

STOPPED = "containers stopped"

LEFT = "containers of ended runs were not stopped"
WOULD_BE_LEFT = "containers of runs that would be ended would not be stopped"
"""The same of a dry run, which stops none in any case."""


class RunIsStopping(ContainerError):
    """A container was not stopped because of a stop request."""


class ContainerStopper:
    """Stops containers of runs. The container engine is opened for the first runs.

    After its first failure it is not used again: each request may last as long as its time-out.
    """

    def __init__(self, settings: Settings, opened: ExitStack) -> None:
        """Keep the settings, and the stack that closes what is opened."""
        self._settings = settings
        self._opened = opened
        self._engine: ContainerEngine | None = None
        self._refused: ContainerError | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._stopping: list[tuple[ManagedContainer, Future[ContainerRemoval]]] = []

    def stop(self, run_ids: Sequence[UUID], execution_ids: Sequence[str]) -> BatchResult:
        """Start to stop and remove the containers of these runs; `wait` returns the result.

        Args:
            run_ids: runs that have timed out.
            execution_ids: the names that the attempts' providers gave the executions.
        """
        found, result = self._find(run_ids, execution_ids)
        if found and self._engine is not None:
            if self._pool is None:
                # Entered after the container engine, so that it is closed before it.
                self._pool = self._opened.enter_context(ThreadPoolExecutor(AT_ONCE, "stopping"))
            for container in found:
                removal = self._pool.submit(_remove, self._engine, container.id)
                self._stopping.append((container, removal))
        return result

    def wait(self) -> BatchResult:
        """Wait until the containers are stopped; return what became of them."""
        result = BatchResult()
        for container, future in self._stopping:
            removal = future.result()
            if removal.state == "removed":
                result.repaired[STOPPED] += 1
            elif removal.state == "failed":
                result.warnings.append(f"{container.item} was not stopped: {removal.cause}")
        self._stopping = []
        return result

    def preview(self, run_ids: Sequence[UUID], execution_ids: Sequence[str]) -> BatchResult:
        """Return which containers would be stopped."""
        found, result = self._find(run_ids, execution_ids, left=WOULD_BE_LEFT)
        if found:
            result.repaired[STOPPED] += len(found)
        return result

    def _find(
        self, run_ids: Sequence[UUID], execution_ids: Sequence[str], left: str = LEFT
    ) -> tuple[list[ManagedContainer], BatchResult]:
        """Return the containers of these runs, out of one list of all of Validibot's."""
        result = BatchResult()
        if not run_ids:
            return [], result
        # Names of other providers' executions are no identifiers of this container engine.
        prefixes = tuple(one for one in execution_ids if IDENTIFIER.fullmatch(one))
        try:
            containers = self._open().managed()
        except EngineNotConfigured as error:
            if prefixes:
                result.warnings.append(f"{left}: {error}")
            return [], result
        except ContainerError as error:
            self._refused = error
            result.warnings.append(f"{left}: {error}")
            return [], result
        ended = set(run_ids)
        lengths = {len(prefix) for prefix in prefixes}
        named = set(prefixes)
        return [
            one
            for one in containers
            if one.run_id in ended or any(one.id[:length] in named for length in lengths)
        ], result

    def _open(self) -> ContainerEngine:
        if self._refused is not None:
            raise self._refused
        if self._engine is None:
            try:
                self._engine = self._opened.enter_context(open_engine(self._settings))
            except ContainerError as error:
                self._refused = error
                raise
        return self._engine


def _remove(engine: ContainerEngine, identifier: str) -> ContainerRemoval:
    """Stop and remove a container, unless a stop request came first."""
    if stop_request.requested():
        return ContainerRemoval(
            "failed", RunIsStopping("the run was asked to stop before it came to it")
        )
    return engine.remove(identifier, GRACE_SECONDS)
