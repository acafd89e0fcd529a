"""The tasks that notice a restored database, and remember what a purge has stamped."""

from collections.abc import Sequence
from uuid import UUID

from prefect import task

from maintenance.cutoff import Cutoff
from maintenance.restore import Look, look_back, remember
from maintenance.storage.roots import private_root
from tasks.purge.options import PurgeOptions, open_purge
from tasks.retrying import TASK_OPTIONS


@task(name="look for a restore", **TASK_OPTIONS)
def look_for_restore(_cutoff: Cutoff, options: PurgeOptions) -> Look:
    """Compare the database with what the storage remembers of it (SPEC 10.16); write nothing.

    Raises:
        DatabaseError: a statement failed.
        StorageError: the storage cannot be used, or is not the application's.
    """
    with open_purge(options, dry_run=True) as purge:
        return look_back(purge.engine, private_root(purge.stores.roots))


@task(name="remember stamps", **TASK_OPTIONS)
def remember_stamps(options: PurgeOptions, kind: str, ids: Sequence[UUID]) -> None:
    """Remember the newest stamps of a run beside the files.

    Raises:
        DatabaseError: a statement failed.
        StorageError: the storage cannot be used, or is not the application's.
    """
    with open_purge(options) as purge:
        remember(purge.engine, private_root(purge.stores.roots), kind, ids)
