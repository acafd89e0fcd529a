"""The work pool on the server: created once, and updated unless an operator edited it."""

from typing import get_args

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from deployments.names import WORK_POOL
from deployments.settings import DeploymentSettings, PoolType
from deployments.setup.changes import Changes
from deployments.setup.last_applied import LastApplied, checksum
from deployments.setup.pools.templates import base_job_template, default_template
from maintenance.errors import MaintenanceError

KINDS: tuple[PoolType, ...] = get_args(PoolType)


class WorkPoolMismatch(MaintenanceError):
    """The work pool is of another type than asked for; a pool's type cannot be changed."""


def ensure_work_pool(
    client: SyncPrefectClient,
    settings: DeploymentSettings,
    last: LastApplied,
    changes: Changes,
) -> None:
    """Create the work pool, or update its job template.

    Without MAINTENANCE_WORK_POOL_TYPE an existing pool of any type is accepted.

    Raises:
        WorkPoolMismatch: it exists with another type than MAINTENANCE_WORK_POOL_TYPE.
    """
    pool = _read(client)
    if pool is None:
        kind = settings.work_pool_type or "process"
        template = base_job_template(kind, settings)

        def create() -> None:
            wanted = WorkPoolCreate(name=WORK_POOL, type=kind, base_job_template=template)
            try:
                client.create_work_pool(wanted)
            except ObjectAlreadyExists:
                return  # another apply was faster
            last.applied.job_template = checksum(template)
            last.write()

        changes.make(f"work pool {WORK_POOL} of type {kind}: made", create)
        return
    asked = settings.work_pool_type
    if asked and pool.type != asked:
        raise WorkPoolMismatch(
            f"MAINTENANCE_WORK_POOL_TYPE is {asked}, but work pool {WORK_POOL} is of type"
            f" {pool.type}, which cannot be changed; stop its workers, delete it with"
            f" `prefect work-pool delete {WORK_POOL}` (deployments and schedules stay), and apply"
            " again"
        )
    _update(client, pool, settings, last, changes)


def _update(
    client: SyncPrefectClient,
    pool: WorkPool,
    settings: DeploymentSettings,
    last: LastApplied,
    changes: Changes,
) -> None:
    kind = next((one for one in KINDS if one == pool.type), None)
    if kind is None:
        changes.keep(f"work pool {WORK_POOL}: type {pool.type} is not known here; left as it is")
        return
    template = base_job_template(kind, settings)
    live, applied = checksum(pool.base_job_template), last.applied.job_template
    if live == checksum(template):
        if not changes.dry_run:
            last.applied.job_template = live
            last.write()
    elif live == applied or pool.base_job_template in ({}, default_template(kind)):

        def update() -> None:
            client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))
            last.applied.job_template = checksum(template)
            last.write()

        changes.make(f"work pool {WORK_POOL}: job template brought up to date", update)
    else:
        changes.keep(f"work pool {WORK_POOL}: an operator edited its job template")


def _read(client: SyncPrefectClient) -> WorkPool | None:
    try:
        return client.read_work_pool(WORK_POOL)
    except ObjectNotFound:
        return None
