"""Setting up a Prefect server: the work pool, the deployments, and proof that they will run.

Applying again is harmless. What prefect.yaml says wins (cron lines, tags, parameters), except that
a schedule that was paused stays paused.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterCreatedBy,
    FlowRunFilterNextScheduledStartTime,
)
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.workers.process import ProcessWorker

from deployments.names import DEPLOYMENT, PREFECT_FILE, WORK_POOL
from flows.jobs import JOBS
from maintenance.errors import MaintenanceError

DEPLOY_SECONDS = 120.0
SCHEDULER_SECONDS = 60.0
"""The server looks for new schedules every few seconds; on a busy machine it takes longer."""
POLL_SECONDS = 0.5


class ApplyError(MaintenanceError):
    """The server is not set up as prefect.yaml says; the text says why, and what to do."""


@dataclass(frozen=True)
class AppliedSchedule:
    """One schedule as it is on the server."""

    id: UUID
    deployment: str
    cron: str
    paused: bool
    next_run: datetime | None = None


def apply(prefect_file: Path = PREFECT_FILE) -> list[AppliedSchedule]:
    """Set up the server that PREFECT_API_URL names, and return the schedules that are on it.

    Raises:
        ApplyError: there is no such server, Prefect refused something, or a schedule that is not
            paused got no runs.
    """
    if not prefect_file.is_file():
        raise ApplyError(f"{prefect_file} does not exist; name it with --prefect-file")
    if not PREFECT_API_URL.value():
        raise ApplyError(
            "PREFECT_API_URL is not set; set it to the server's address, like"
            " http://127.0.0.1:4200/api"
        )
    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
        if problem is not None:
            raise ApplyError(f"no Prefect server answers at {client.api_url}: {problem}")
        ensure_work_pool(client)
        deploy(prefect_file)
        return wait_for_runs(client)


def ensure_work_pool(client: SyncPrefectClient) -> None:
    """Make the work pool, unless there is one of that name, whatever its type."""
    try:
        client.read_work_pool(WORK_POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        try:
            client.create_work_pool(
                WorkPoolCreate(name=WORK_POOL, type=ProcessWorker.type, base_job_template=template)
            )
        except ObjectAlreadyExists:
            return  # somebody else was faster


def deploy(prefect_file: Path) -> None:
    """Apply prefect.yaml with Prefect's own command.

    It runs in the file's folder, so that the flows are found there even when the packages are not
    installed.
    """
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    try:
        done = subprocess.run(
            [*command, "--prefect-file", str(prefect_file)],
            cwd=prefect_file.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEPLOY_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ApplyError(f"prefect deploy took longer than {DEPLOY_SECONDS:.0f} s") from None
    if done.returncode:
        said = " ".join(done.stdout.split()) or f"exit status {done.returncode}"
        raise ApplyError(f"prefect deploy failed: {said[-1000:]}")


def wait_for_runs(
    client: SyncPrefectClient, clock: Callable[[], float] = time.monotonic
) -> list[AppliedSchedule]:
    """Return the schedules of all jobs, as soon as each that is not paused has future runs.

    A server can accept schedules and never make runs of them (when its scheduler is broken, or
    switched off), and then cron silently does nothing. Hence this proof.
    """
    deadline = clock() + SCHEDULER_SECONDS
    while True:
        schedules = [schedule for name in JOBS for schedule in read_schedules(client, name)]
        missing = {one.deployment for one in schedules if not one.paused and one.next_run is None}
        if not missing:
            return schedules
        if clock() > deadline:
            raise ApplyError(
                f"deployed, but the server has scheduled no runs of {', '.join(sorted(missing))}"
                f" within {SCHEDULER_SECONDS:.0f} s; look into its log for errors of the scheduler"
            )
        time.sleep(POLL_SECONDS)


def read_schedules(client: SyncPrefectClient, job: str) -> list[AppliedSchedule]:
    """Return the schedules of one job's deployment."""
    name = f"{job}/{DEPLOYMENT}"
    try:
        deployment = client.read_deployment_by_name(name)
    except ObjectNotFound:
        raise ApplyError(f"there is no deployment {name}; is it missing in prefect.yaml?") from None
    return [
        AppliedSchedule(
            id=one.id,
            deployment=name,
            cron=one.schedule.cron if isinstance(one.schedule, CronSchedule) else "not cron",
            paused=deployment.paused or not one.active,
            next_run=next_run(client, one.id),
        )
        for one in deployment.schedules
    ]


def next_run(client: SyncPrefectClient, schedule: UUID) -> datetime | None:
    """Return when the server will next start a run of a schedule, None when it has none."""
    future = FlowRunFilterNextScheduledStartTime.model_validate({"after_": datetime.now(UTC)})
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            created_by=FlowRunFilterCreatedBy(id_=[schedule]), next_scheduled_start_time=future
        ),
        sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
        limit=1,
    )
    return runs[0].next_scheduled_start_time if runs else None
