"""Set-up of a Prefect server: work pool, deployments, automations, and a check that runs are made.

Applying again is harmless: what an operator changed is kept and listed
(deployments/setup/schedule_merge.py), and conflicts are reported to the server's automations
(deployments/setup/conflicts.py).
"""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterCreatedBy,
    FlowRunFilterNextScheduledStartTime,
)
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL

from deployments.due import never_due
from deployments.names import DEPLOYMENT, PREFECT_FILE
from deployments.settings import load_deployment_settings
from deployments.setup.automations import apply_automations
from deployments.setup.changes import COMMAND, Changes
from deployments.setup.conflicts import report_conflicts
from deployments.setup.declared import DeclaredDeployment, read_declared
from deployments.setup.deployment import deploy, read_deployment
from deployments.setup.last_applied import LastApplied
from deployments.setup.pools.work_pool import ensure_work_pool
from deployments.setup.remembered import tell_or_bring_back
from deployments.setup.schedule_merge import Live, to_live
from flows.jobs import JOBS
from flows.run.server_access import why_no_server
from maintenance.errors import MaintenanceError

SCHEDULER_SECONDS = 60.0
"""The scheduler runs every few seconds; on a busy machine it takes longer."""
POLL_SECONDS = 0.5
ANSWER_SECONDS = 30.0
"""For the first answer of a server that may just have been started."""


class ApplyError(MaintenanceError):
    """The server could not be set up; the text says why, and what to do."""


@dataclass(frozen=True)
class AppliedSchedule:
    """One schedule as it is on the server."""

    deployment: str
    live: Live
    paused: bool
    never_due: bool
    declared: bool
    """Whether it is as prefect.yaml says."""
    next_run: datetime | None = None

    @property
    def may_run(self) -> bool:
        """Whether the scheduler is to make runs of it."""
        return not (self.paused or self.never_due)


@dataclass(frozen=True)
class Outcome:
    """What an apply found and did."""

    changes: Changes
    schedules: list[AppliedSchedule]
    unsent: str | None = None
    """Why the events about conflicts could not be sent."""


def apply(
    prefect_file: Path = PREFECT_FILE,
    *,
    reset_schedules: bool = False,
    bring_back: bool = False,
    forget: bool = False,
    dry_run: bool = False,
) -> Outcome:
    """Set up the server that PREFECT_API_URL names.

    Args:
        prefect_file: The file to apply.
        reset_schedules: Replace schedules that an operator has changed with the file's; what is
            paused stays paused.
        bring_back: Set again the parameters and pauses that `prefect deploy` has undone.
        forget: Take for wanted what `prefect deploy` has made of them.
        dry_run: Only return what would be done.

    Raises:
        MaintenanceError: there is no such server, the file is invalid, the server refuses a
            request, or the scheduler made no runs of a schedule that is not paused.
    """
    settings = load_deployment_settings()
    declared = read_declared(prefect_file)
    missing = {f"{job}/{DEPLOYMENT}" for job in JOBS} - {one.full_name for one in declared}
    if missing:
        raise ApplyError(f"{prefect_file} has no deployment {', '.join(sorted(missing))}")
    if not PREFECT_API_URL.value():
        raise ApplyError(
            "PREFECT_API_URL is not set; set it to the server's address, like"
            " http://127.0.0.1:4200/api"
        )
    problem = why_no_server(ANSWER_SECONDS)
    if problem:
        raise ApplyError(problem)
    with get_client(sync_client=True) as client:
        changes, last = Changes(dry_run, command_for(prefect_file)), LastApplied(client)
        ensure_work_pool(client, settings, last, changes)
        for one in declared:
            deploy(client, one, last, changes, reset=reset_schedules)
        names = [one.full_name for one in declared]
        tell_or_bring_back(client, names, changes, bring_back=bring_back, forget=forget)
        apply_automations(client, last, changes)
        if dry_run:
            return Outcome(changes, read_schedules(client, declared))
        # Before the check of the scheduler, which may fail.
        unsent = report_conflicts(client, changes.conflicts)
        return Outcome(changes, wait_for_runs(client, declared), unsent)


def command_for(prefect_file: Path) -> str:
    """Return the command that applies a file."""
    if prefect_file == PREFECT_FILE:
        return COMMAND
    return f"{COMMAND} --prefect-file {shlex.quote(str(prefect_file))}"


def wait_for_runs(
    client: SyncPrefectClient,
    declared: list[DeclaredDeployment],
    clock: Callable[[], float] = time.monotonic,
) -> list[AppliedSchedule]:
    """Return all schedules, as soon as each that is not paused has future runs.

    A server whose scheduler is broken or switched off accepts schedules and makes no runs of them.
    A schedule that an operator added may have none: Prefect makes runs 100 days ahead only.

    Raises:
        ApplyError: a declared schedule has none after `SCHEDULER_SECONDS`.
    """
    deadline = clock() + SCHEDULER_SECONDS
    while True:
        schedules = read_schedules(client, declared)
        waiting = [one for one in schedules if one.next_run is None and one.may_run]
        if not waiting:
            return schedules
        if clock() > deadline:
            missing = {one.deployment for one in waiting if one.declared}
            if not missing:
                return schedules
            raise ApplyError(
                f"deployed, but the server has scheduled no runs of {', '.join(sorted(missing))}"
                f" within {SCHEDULER_SECONDS:.0f} s; look into its log for errors of the scheduler"
            )
        time.sleep(POLL_SECONDS)


def read_schedules(
    client: SyncPrefectClient, declared: list[DeclaredDeployment]
) -> list[AppliedSchedule]:
    """Return the schedules of the deployments that are on the server."""
    found = []
    for one in declared:
        deployment = read_deployment(client, one.full_name)
        if deployment is None:
            continue  # in a dry run before the first apply
        timings = {schedule.slug: schedule.timing for schedule in one.schedules}
        for schedule in deployment.schedules:
            live = to_live(schedule)
            found.append(
                AppliedSchedule(
                    deployment=one.full_name,
                    live=live,
                    paused=deployment.paused or not schedule.active,
                    never_due=never_due(schedule.schedule),
                    declared=live.timing is not None
                    and timings.get(live.slug or "") == live.timing,
                    next_run=next_run(client, live.id),
                )
            )
    return found


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
