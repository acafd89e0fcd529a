"""One deployment on the server: made, or changed where it differs from prefect.yaml.

Through the API and not with `prefect deploy`, which would put its own schedules back first: an
operator's would be gone until they were restored, and for good when that is interrupted.
A deployment that differs in nothing is not touched, because every update of one deletes its
coming runs until the scheduler has made them again.
"""

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
from deployments.setup.conflicts import Approval
from deployments.setup.declared import DeclaredDeployment
from deployments.setup.last_applied import Record
from deployments.setup.schedule_merge import Timing, judge, to_live


def deploy(
    client: SyncPrefectClient,
    declared: DeclaredDeployment,
    record: Record,
    changes: Changes,
    *,
    reset: bool,
) -> None:
    """Make a deployment, or bring it and its schedules up to date.

    Paused stays paused, and parameters that an operator set stay unless prefect.yaml has some.
    """
    found = read_deployment(client, declared.full_name)
    timings = {one.slug: one.timing for one in declared.schedules}
    if found is None:

        def create() -> None:
            record.write_timings(declared.full_name, _create(client, declared, timings), timings)

        changes.make(f"{declared.full_name}: made", create)
        return
    scheduled_anew = _deploy_schedules(
        client, declared.full_name, found, timings, record, changes, reset=reset
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
    elif scheduled_anew and not changes.dry_run:
        # The scheduler looks at once at deployments that were updated, and only once a minute at
        # those whose schedules were.
        client.update_deployment(found.id, DeploymentUpdate(entrypoint=declared.entrypoint))


def read_deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    """Return a deployment, None when there is none of that name."""
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _deploy_schedules(
    client: SyncPrefectClient,
    name: str,
    found: DeploymentResponse,
    timings: dict[str, Timing],
    record: Record,
    changes: Changes,
    *,
    reset: bool,
) -> bool:
    live = [to_live(one) for one in found.schedules]
    verdict = judge(live, record.timings(name, found.id), timings, reset=reset)
    for slug, timing in verdict.create.items():
        new = DeploymentScheduleCreate(schedule=timing.to_schedule(), slug=slug)
        changes.make(
            f"{name}: schedule {slug} made ({timing})",
            partial(client.create_deployment_schedules, found.id, [new]),
        )
    for one, timing in verdict.update.items():
        changes.make(
            f"{name}: schedule {one.name} changed from {one.text} to {timing}",
            partial(
                client.update_deployment_schedule,
                found.id,
                one.id,
                schedule=timing.to_schedule(),
            ),
        )
    for one in verdict.delete:
        changes.make(
            f"{name}: schedule {one.name} ({one.text}) deleted",
            partial(client.delete_deployment_schedule, found.id, one.id),
        )
    for what in verdict.kept:
        changes.keep(f"{name}: {what}")
    for conflict in verdict.conflicts:
        changes.ask(Approval(name, conflict, f"{changes.command} --reset-schedules"))
    if not changes.dry_run:
        record.write_timings(name, found.id, verdict.applied)
    return bool(verdict.create or verdict.update or verdict.delete)


def _create(
    client: SyncPrefectClient, declared: DeclaredDeployment, timings: dict[str, Timing]
) -> UUID:
    schedules = [
        DeploymentScheduleCreate(schedule=timing.to_schedule(), slug=slug)
        for slug, timing in timings.items()
    ]
    return client.create_deployment(
        flow_id=client.create_flow_from_name(declared.flow.name),
        name=declared.name,
        schedules=schedules,
        version=declared.flow.version,
        **_wanted(declared),
    )


def _wanted(declared: DeclaredDeployment) -> dict[str, Any]:
    """Return the fields of a deployment as prefect.yaml and its flow say them.

    Not its version: `prefect deploy` takes that of the checkout's commit where it finds one.
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
    """Return the same fields as they are on the server."""
    limit = found.global_concurrency_limit
    differently_kept = {
        "concurrency_limit": limit.limit if limit else None,
        "concurrency_options": found.concurrency_options,
    }
    return {
        name: differently_kept[name] if name in differently_kept else getattr(found, name)
        for name in wanted
    }
