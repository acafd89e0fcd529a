"""The work pool on the server: made once, and kept up to date unless an operator edited it."""

from typing import get_args

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from deployments.names import WORK_POOL
from deployments.settings import DeploymentSettings, PoolType
from deployments.setup.changes import Changes
from deployments.setup.last_applied import Record, checksum
from deployments.setup.pools.templates import base_job_template, default_template
from maintenance.errors import MaintenanceError

KINDS: tuple[PoolType, ...] = get_args(PoolType)


class WorkPoolMismatch(MaintenanceError):
    """The work pool is of another type than asked for; a pool's type cannot be changed."""


def ensure_work_pool(
    client: SyncPrefectClient, settings: DeploymentSettings, record: Record, changes: Changes
) -> None:
    """Make the work pool, or bring its job template up to date.

    Without MAINTENANCE_WORK_POOL_TYPE a pool that exists is taken as it is.

    Raises:
        WorkPoolMismatch: it exists and is of another type.
    """
    pool = _read(client)
    if pool is None:
        kind = settings.work_pool_type or "process"
        template = base_job_template(kind, settings.image)

        def create() -> None:
            wanted = WorkPoolCreate(name=WORK_POOL, type=kind, base_job_template=template)
            try:
                client.create_work_pool(wanted)
            except ObjectAlreadyExists:
                return  # somebody else was faster
            record.applied.job_template = checksum(template)
            record.write()

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
    _update(client, pool, settings, record, changes)


def _update(
    client: SyncPrefectClient,
    pool: WorkPool,
    settings: DeploymentSettings,
    record: Record,
    changes: Changes,
) -> None:
    kind = next((one for one in KINDS if one == pool.type), None)
    if kind is None:
        changes.keep(f"work pool {WORK_POOL}: type {pool.type} is not known here; left as it is")
        return
    template = base_job_template(kind, settings.image)
    live, applied = checksum(pool.base_job_template), record.applied.job_template
    if live == checksum(template):
        if not changes.dry_run:
            record.applied.job_template = live
            record.write()
    elif live == applied or pool.base_job_template in ({}, default_template(kind)):

        def update() -> None:
            client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))
            record.applied.job_template = checksum(template)
            record.write()

        changes.make(f"work pool {WORK_POOL}: job template brought up to date", update)
    else:
        changes.keep(f"work pool {WORK_POOL}: an operator edited its job template")


def _read(client: SyncPrefectClient) -> WorkPool | None:
    try:
        return client.read_work_pool(WORK_POOL)
    except ObjectNotFound:
        return None
