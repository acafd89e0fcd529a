"""One deployment on the server: created, or changed where it differs from prefect.yaml.

The API is used instead of `prefect deploy`, which replaces an operator's schedules with the
declared ones; restoring them afterwards would lose them on a crash. A deployment without
differences is not updated, because an update deletes its scheduled runs until the scheduler has
made them again.
"""

from collections.abc import Set  # noqa: PYI025
from functools import partial
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema

from deployments.setup.changes import Changes
from deployments.setup.conflicts import DeploymentConflict
from deployments.setup.declared import DeclaredDeployment
from deployments.setup.last_applied import LastApplied
from deployments.setup.schedule_merge import Timing, merge, to_live


def deploy(
    client: SyncPrefectClient,
    declared: DeclaredDeployment,
    last: LastApplied,
    changes: Changes,
    *,
    reset: bool,
) -> None:
    """Create a deployment, or update it and merge its schedules.

    What is paused stays paused. Parameters that an operator set are kept unless prefect.yaml has
    some.
    """
    found = read_deployment(client, declared.full_name)
    timings = {one.slug: one.timing for one in declared.schedules}
    off = {schedule.slug for schedule in declared.schedules if schedule.active is False}
    if found is None:

        def create() -> None:
            last.write_timings(declared.full_name, _create(client, declared, timings, off), timings)

        changes.make(f"{declared.full_name}: made", create)
        return
    rescheduled = _deploy_schedules(
        client, declared.full_name, found, timings, last, changes, off=off, reset=reset
    )
    wanted = _wanted(declared)
    differing = sorted(
        name for name, value in _live(found, wanted).items() if value != wanted[name]
    )
    if differing:
        update = DeploymentUpdate(**{name: wanted[name] for name in differing})
        changes.make(
            f"{declared.full_name}: changed {', '.join(differing)}",
            partial(client.update_deployment, found.id, update),
        )
    elif rescheduled and not changes.dry_run:
        # After an update of a deployment the scheduler makes its runs at once; after an update of
        # its schedules only, within a minute.
        client.update_deployment(found.id, DeploymentUpdate(entrypoint=declared.entrypoint))


def read_deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    """Return a deployment, None if there is none of that name."""
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _deploy_schedules(
    client: SyncPrefectClient,
    name: str,
    found: DeploymentResponse,
    timings: dict[str, Timing],
    last: LastApplied,
    changes: Changes,
    *,
    off: Set[str],
    reset: bool,
) -> bool:
    live = [to_live(one) for one in found.schedules]
    parameters = {one.id: one.parameters for one in found.schedules}
    merged = merge(live, last.timings(name, found.id), timings, reset=reset)
    for slug, timing in merged.create.items():
        new = _schedule(slug, timing, off)
        changes.make(
            f"{name}: schedule {slug} made ({timing})",
            partial(client.create_deployment_schedules, found.id, [new]),
        )
    for one, timing in merged.update.items():
        changes.make(
            f"{name}: schedule {one.name} changed from {one.text} to {timing}",
            partial(
                client.update_deployment_schedule,
                found.id,
                one.id,
                schedule=timing.to_schedule(),
                # The server empties them when a request does not hold them.
                parameters=parameters[one.id],
            ),
        )
    for one in merged.delete:
        changes.make(
            f"{name}: schedule {one.name} ({one.text}) deleted",
            partial(client.delete_deployment_schedule, found.id, one.id),
        )
    for what in merged.kept:
        changes.keep(f"{name}: {what}")
    for conflict in merged.conflicts:
        command = f"{changes.command} --reset-schedules"
        changes.add_conflict(DeploymentConflict(name, conflict, command))
    if not changes.dry_run:
        last.write_timings(name, found.id, merged.applied)
    return bool(merged.create or merged.update or merged.delete)


def _create(
    client: SyncPrefectClient,
    declared: DeclaredDeployment,
    timings: dict[str, Timing],
    off: Set[str],
) -> UUID:
    schedules = [_schedule(slug, timing, off) for slug, timing in timings.items()]
    return client.create_deployment(
        flow_id=client.create_flow_from_name(declared.flow.name),
        name=declared.name,
        schedules=schedules,
        version=declared.flow.version,
        **_wanted(declared),
    )


def _schedule(slug: str, timing: Timing, off: Set[str]) -> DeploymentScheduleCreate:
    """Return a new schedule, which starts runs at once unless it is one of those that are off."""
    schedule = timing.to_schedule()
    return DeploymentScheduleCreate(schedule=schedule, slug=slug, active=slug not in off)


def _wanted(declared: DeclaredDeployment) -> dict[str, Any]:
    """Return the fields of a deployment from prefect.yaml and its flow.

    The version is not among them: `prefect deploy` sets it to the checkout's commit.
    """
    flow = declared.flow
    limit = declared.concurrency_limit
    fields = {
        "concurrency_limit": limit.limit,
        "concurrency_options": ConcurrencyOptions(collision_strategy=limit.collision_strategy),
        "description": declared.description or flow.description,
        "enforce_parameter_schema": True,
        "entrypoint": declared.entrypoint,
        "job_variables": declared.work_pool.job_variables,
        "parameter_openapi_schema": parameter_schema(flow).model_dump(exclude_unset=True),
        "pull_steps": [],
        "tags": list(declared.tags),
        "work_pool_name": declared.work_pool.name,
    }
    return fields if declared.parameters is None else fields | {"parameters": declared.parameters}


def _live(found: DeploymentResponse, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the same fields from the server."""
    limit = found.global_concurrency_limit
    named_otherwise = {
        "concurrency_limit": limit.limit if limit else None,
        "concurrency_options": found.concurrency_options,
    }
    return {
        name: named_otherwise[name] if name in named_otherwise else getattr(found, name)
        for name in wanted
    }
