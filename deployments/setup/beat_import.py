"""Import of the schedules that operators edited in Celery Beat, and taking its tasks over.

Each job's deployment gets the cron line, the time zone and the enabled flag of Beat's task. That
counts as an operator's edit: `python -m deployments` keeps it. Importing again changes nothing.
Tasks that are not among the jobs, and schedules that Prefect cannot express, are listed and left.
What Beat does not start does not run here either, whether or not its schedule can be read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule

from deployments.client import server
from deployments.names import DEPLOYMENT
from deployments.setup.changes import Changes
from deployments.setup.deployment import read_deployment
from deployments.setup.imported_schedule import Target
from maintenance.beat.crontab import Crontab
from maintenance.beat.take_over import disable, to_take_over
from maintenance.beat.tasks import REPLACED, BeatTask, read_tasks
from maintenance.database import engine_for, transaction
from maintenance.settings import settings

ANCHOR = datetime(2020, 1, 1, tzinfo=UTC)
"""Fixed start of intervals, so that importing again finds them unchanged."""
NAME = "import-beat"
SLUG = "beat-{}"
"""Of the schedule of a second task for the same job, with the task's number."""


@dataclass
class Imported:
    """What an import changed, what was so already, and what it left and why."""

    changes: Changes
    left: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Deployments that do not exist."""
    disabled: list[str] | None = None
    """Tasks that were disabled in Beat; None if that was not asked for, or not done."""


def import_schedules(
    *, dry_run: bool, take_over: bool = False, keep_schedules: bool = False
) -> Imported:
    """Read Beat's tasks and apply them to the deployments.

    Args:
        dry_run: Only return what would be done.
        take_over: Then disable in Beat the tasks that the jobs replace. Nothing is disabled while
            a deployment is missing.
        keep_schedules: Leave the schedules of the deployments as they are, and only take over.

    Raises:
        MaintenanceError: Beat's tables cannot be read, or with `take_over` not be changed; the
            Prefect server does not answer; or a setting is invalid. Rights are checked before
            anything is changed.
    """
    engine = engine_for(settings(), NAME)
    with transaction(engine, read_only=True) as connection:
        tasks = read_tasks(connection)
        if take_over:
            to_take_over(connection)
    done = Imported(Changes(dry_run))
    if not keep_schedules:
        _import_all(tasks, done)
    if take_over and not done.missing:
        with transaction(engine, read_only=dry_run) as connection:
            chosen = to_take_over(connection)
            if not dry_run:
                disable(connection, chosen)
        done.disabled = [f"task {task.name!r} ({task.task})" for task in chosen]
    return done


def _import_all(tasks: Sequence[BeatTask], done: Imported) -> None:
    done.left += [
        f"task {task.name!r} ({task.task}) is none of the jobs" for task in tasks if not task.job
    ]
    with server() as client:
        for job in REPLACED:
            _import_job(client, job, [task for task in tasks if task.job == job], done)


def _import_job(
    client: SyncPrefectClient, job: str, tasks: Sequence[BeatTask], done: Imported
) -> None:
    name = f"{job}/{DEPLOYMENT}"
    deployment = read_deployment(client, name)
    if deployment is None:
        done.missing.append(name)
        return
    target = Target(client, name, deployment, done.changes)
    if not tasks:
        done.left.append(f"{name}: Beat has no such task; {target.state(job)}")
    # The first task replaces the default schedule; others become additional schedules.
    slugs = [job, *(SLUG.format(task.id) for task in tasks[1:])]
    for slug, task in zip(slugs, tasks, strict=False):
        done.left += _import_task(target, slug, task)
    known = {SLUG.format(task.id) for task in tasks}
    done.left += [
        f"{name}: schedule {slug} stays, although Beat has no such task any more"
        for slug in target.slugs
        if slug.startswith(SLUG.format("")) and slug not in known
    ]


def _import_task(target: Target, slug: str, task: BeatTask) -> list[str]:
    """Apply one task to the schedule of this slug; return what was left and why."""
    which = f"{target.name}: task {task.name!r}"
    if task.taken_over and not task.on:
        target.changes.keep(f"{which} was taken over: {target.state(slug)}")
        return []
    left = [f"{which}: {note}" for note in task.notes]
    if task.timing is not None:
        target.apply(slug, _schedule(task.timing), task.when, active=task.on)
        return left
    if task.on:
        return [*left, f"{which}: {task.why_not}; {target.state(slug)}"]
    target.pause(slug, task.off)
    return [*left, f"{which}: {task.why_not}"]


def _schedule(timing: Crontab | timedelta) -> SCHEDULE_TYPES:
    if isinstance(timing, Crontab):
        return CronSchedule(cron=timing.cron, timezone=timing.timezone, day_or=timing.day_or)
    return IntervalSchedule(interval=timing, anchor_date=ANCHOR, timezone="UTC")
