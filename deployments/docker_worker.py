"""`python -m deployments.docker_worker ARGUMENTS...`: Prefect's command line, with another worker.

Prefect's own worker reads the exit status before the container has ended, or, with `auto_remove`,
not at all, so that a run that was killed counts as one that ended well and is not started again.
Here the worker of type docker waits for the end, reads the status, and then removes the
container. At its start it removes what ended while there was no worker.
"""

import runpy
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio.abc
import docker
from docker.errors import APIError, NotFound
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.asyncutils import run_sync_in_worker_thread
from prefect_docker import worker as prefects
from prefect_docker.worker import DockerWorkerJobConfiguration, DockerWorkerResult

from deployments.names import RUN_LABEL

KILLED = 137
"""128 and SIGKILL: also for a container that was removed by force."""
LEFT_BEHIND = timedelta(minutes=10)
"""What ended longer ago was not removed by its own worker."""


with warnings.catch_warnings():
    # Prefect says that a type is overridden, which is meant to be.
    warnings.simplefilter("ignore", UserWarning)

    class DockerWorker(prefects.DockerWorker):  # type: ignore[misc]
        """Prefect's worker of this type, except for the end of a container."""

        type = "docker"

        async def setup(self) -> None:
            """Set the worker up, and remove the containers that another one has left."""
            await super().setup()
            await run_sync_in_worker_thread(remove_left_behind)

        async def run(
            self,
            flow_run: FlowRun,
            configuration: DockerWorkerJobConfiguration,
            task_status: anyio.abc.TaskStatus[str] | None = None,
        ) -> DockerWorkerResult:
            """Run a flow run in a container, and return the status with which that ended."""
            result = await super().run(flow_run, configuration, task_status)
            identifier = result.identifier.rpartition(":")[2]
            status = await run_sync_in_worker_thread(end_of, identifier)
            return DockerWorkerResult(status_code=status, identifier=result.identifier)


def end_of(identifier: str) -> int:
    """Wait for the end of a container, remove it, and return its exit status."""
    with _engine() as engine:
        try:
            container = engine.containers.get(identifier)
            status: int = container.wait()["StatusCode"]
            container.remove(v=True, force=True)
        except NotFound:
            return KILLED
    return status


def remove_left_behind(age: timedelta = LEFT_BEHIND) -> None:
    """Remove the containers of runs that ended longer ago; one that cannot be removed stays."""
    filters: dict[str, Any] = {"label": RUN_LABEL, "status": "exited"}
    with _engine() as engine:
        for container in engine.containers.list(all=True, filters=filters):
            ended = datetime.fromisoformat(container.attrs["State"]["FinishedAt"])
            if ended < datetime.now(UTC) - age:
                try:
                    container.remove(v=True)
                except APIError:
                    continue


@contextmanager
def _engine() -> Iterator[docker.DockerClient]:
    engine = docker.from_env()
    try:
        yield engine
    finally:
        engine.close()


if __name__ == "__main__":
    sys.argv[0] = "prefect"
    runpy.run_module("prefect", run_name="__main__")
