"""Import of the schedules that operators edited in Celery Beat.

Each job's deployment gets the cron line, the time zone and the enabled flag of Beat's task. That
counts as an operator's edit: `python -m deployments` keeps it. Importing again changes nothing.
Tasks that are not among the jobs, and schedules that Prefect cannot express, are listed and left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule

from deployments.client import server
from deployments.names import DEPLOYMENT
from deployments.setup.changes import Changes
from deployments.setup.deployment import read_deployment
from deployments.setup.schedule_merge import to_live
from flows.jobs import JOBS
from maintenance.beat.crontab import Crontab
from maintenance.beat.tasks import BeatTask, read_tasks
from maintenance.database import engine_for, transaction
from maintenance.settings import settings

ANCHOR = datetime(2020, 1, 1, tzinfo=UTC)
"""Fixed start of intervals, so that importing again finds them unchanged."""


@dataclass
class Imported:
    """What an import changed, what was so already, and what it left and why."""

    changes: Changes
    left: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Deployments that do not exist."""


def import_schedules(*, dry_run: bool) -> Imported:
    """Read Beat's tasks and apply them to the deployments.

    Raises:
        MaintenanceError: Beat's tables cannot be read, the Prefect server does not answer, or a
            setting is invalid.
    """
    with transaction(engine_for(settings(), "import-beat"), read_only=True) as connection:
        tasks = read_tasks(connection)
    done = Imported(Changes(dry_run))
    done.left += [
        f"task {one.name!r} ({one.task}) is none of the jobs" for one in tasks if one.job is None
    ]
    with server() as client:
        for job in JOBS:
            _take_over(client, job, [one for one in tasks if one.job == job], done)
    return done


def _take_over(
    client: SyncPrefectClient, job: str, tasks: Sequence[BeatTask], done: Imported
) -> None:
    name = f"{job}/{DEPLOYMENT}"
    if not tasks and JOBS[job].off_at_first:
        return  # Beat never had such a task.
    if not tasks:
        done.left.append(f"{name}: Beat has no such task")
        return
    for one in tasks:
        done.left += [f"{name}: task {one.name!r}: {note}" for note in one.notes]
        if one.timing is None:
            done.left.append(f"{name}: task {one.name!r}: {one.why_not}")
    deployment = read_deployment(client, name)
    if deployment is None:
        done.missing.append(name)
        return
    # The first task replaces the default schedule; others become additional schedules.
    for number, one in enumerate(tasks):
        if one.timing is not None:
            slug = job if number == 0 else f"beat-{one.id}"
            _apply(client, deployment, slug, one, _schedule(one.timing), done.changes)


def _apply(
    client: SyncPrefectClient,
    deployment: DeploymentResponse,
    slug: str,
    task: BeatTask,
    wanted: SCHEDULE_TYPES,
    changes: Changes,
) -> None:
    line = f"{task.job}/{DEPLOYMENT}: schedule {slug}"
    switch = "on" if task.enabled else "paused"
    live = next((one for one in deployment.schedules if one.slug == slug), None)
    if live is None:
        new = DeploymentScheduleCreate(schedule=wanted, active=task.enabled, slug=slug)
        changes.make(
            f"{line} made: {task.when}, {switch}",
            partial(client.create_deployment_schedules, deployment.id, [new]),
        )
        return
    edited = [f"{to_live(live).text} becomes {task.when}"] if _differs(live, wanted) else []
    if live.active != task.enabled:
        edited.append("resumed" if task.enabled else "paused")
    if not edited:
        changes.keep(f"{line}: {task.when}, {switch}")
        return
    changes.make(
        f"{line}: {', '.join(edited)}",
        partial(
            client.update_deployment_schedule,
            deployment.id,
            live.id,
            active=task.enabled,
            schedule=wanted,
        ),
    )


def _schedule(timing: Crontab | timedelta) -> SCHEDULE_TYPES:
    if isinstance(timing, Crontab):
        return CronSchedule(cron=timing.cron, timezone=timing.timezone, day_or=timing.day_or)
    return IntervalSchedule(interval=timing, anchor_date=ANCHOR, timezone="UTC")


def _differs(live: DeploymentSchedule, wanted: SCHEDULE_TYPES) -> bool:
    one = live.schedule
    if isinstance(one, CronSchedule) and isinstance(wanted, CronSchedule):
        return (one.cron, one.timezone or "UTC", one.day_or) != (
            wanted.cron,
            wanted.timezone,
            wanted.day_or,
        )
    if isinstance(one, IntervalSchedule) and isinstance(wanted, IntervalSchedule):
        return one.interval != wanted.interval
    return True
