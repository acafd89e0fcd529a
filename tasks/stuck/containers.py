"""Stopping the containers of runs that have ended (SPEC 6.3).

A run's containers are those that its attempt's provider named, and those that carry its label. A
validator that hangs rarely minds being asked to end, so each one takes its whole grace: they are
stopped beside the work on the next runs, and waited for once.

An engine that is away is a warning: the runs have ended all the same, and what is left behind is
removed by cleanup-orphaned-containers once the engine answers.
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
"""A container may take so long to end before it is killed."""

AT_ONCE = 8
"""So many containers are stopped at a time: stopping is mostly waiting for their grace."""

STOPPED = "containers stopped"


class RunIsStopping(ContainerError):
    """A container was left alone because the run was asked to stop."""


class ContainerStopper:
    """Stops containers of runs. The engine is opened when the first runs come.

    Once it has failed it is not asked again: each question may take as long as its time-out.
    """

    def __init__(self, settings: Settings, opened: ExitStack) -> None:
        """Say which engine it is, and what closes the connection to it."""
        self._settings = settings
        self._opened = opened
        self._engine: ContainerEngine | None = None
        self._refused: ContainerError | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._stopping: list[tuple[ManagedContainer, Future[ContainerRemoval]]] = []

    def stop(self, run_ids: Sequence[UUID], execution_ids: Sequence[str]) -> BatchResult:
        """Begin to stop and remove the containers of these runs; `wait` says what became of it.

        Args:
            run_ids: runs that have ended.
            execution_ids: what the provider of their attempts called the executions.
        """
        found, result = self._find(run_ids, execution_ids)
        if found and self._engine is not None:
            if self._pool is None:
                # Entered after the engine, so that it is at its end before the engine is closed.
                self._pool = self._opened.enter_context(ThreadPoolExecutor(AT_ONCE, "stopping"))
            for container in found:
                removal = self._pool.submit(_remove, self._engine, container.id)
                self._stopping.append((container, removal))
        return result

    def wait(self) -> BatchResult:
        """Wait for the containers that are being stopped; return what became of them."""
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
        found, result = self._find(run_ids, execution_ids)
        if found:
            result.repaired[STOPPED] += len(found)
        return result

    def _find(
        self, run_ids: Sequence[UUID], execution_ids: Sequence[str]
    ) -> tuple[list[ManagedContainer], BatchResult]:
        """Return the containers of these runs, from one list of all that are Validibot's."""
        result = BatchResult()
        if not run_ids:
            return [], result
        # Other providers have names of their own kinds, which mean nothing to this engine.
        prefixes = tuple(one for one in execution_ids if IDENTIFIER.fullmatch(one))
        try:
            containers = self._open().managed()
        except EngineNotConfigured as error:
            if prefixes:
                result.warnings.append(f"containers of ended runs were not stopped: {error}")
            return [], result
        except ContainerError as error:
            self._refused = error
            result.warnings.append(f"containers of ended runs were not stopped: {error}")
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
    """Stop and remove a container, unless the run itself is to stop and has not begun with it."""
    if stop_request.requested():
        return ContainerRemoval(
            "failed", RunIsStopping("the run was asked to stop before it came to it")
        )
    return engine.remove(identifier, GRACE_SECONDS)
