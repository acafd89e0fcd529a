"""The tasks of cleanup-orphaned-containers: look, preview, remove, count what is left (SPEC 7)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE
from sqlalchemy import select

from maintenance import stop_request
from maintenance.access import ACCESS
from maintenance.budget import SliceBudget
from maintenance.catalogue import check_columns
from maintenance.containers.engine import ContainerEngine, ContainerRemoval, open_engine
from maintenance.containers.managed import ManagedContainer
from maintenance.containers.orphans import (
    Moments,
    RunEnd,
    Runs,
    Selection,
    in_use,
    select_all,
    select_orphans,
)
from maintenance.cutoff import Cutoff, choose_cutoff
from maintenance.database import database_clock, engine_for, transaction
from maintenance.errors import DatabaseError, EngineUnavailable
from maintenance.report import BatchResult, Overdue
from maintenance.schema import runs
from maintenance.settings import settings
from tasks.batching.arrays import any_uuid
from tasks.batching.slices import Batch, Slice, work_slice
from tasks.purge.options import block_sizer
from tasks.retrying import TASK_OPTIONS

STOP_GRACE_SECONDS = 10.0
"""A container may take so long to end before it is killed."""

PARALLEL_REMOVALS = 4
BATCH_SIZE = 4 * PARALLEL_REMOVALS
"""Most containers of a batch, unless a run says otherwise: at worst 40 seconds of stopping."""


@dataclass(frozen=True)
class Start:
    """The moment that a run works up to, and why the database cannot be asked, if so."""

    cutoff: Cutoff
    database_fault: str | None = None

    @property
    def warnings(self) -> list[str]:
        """What a report says about it."""
        if self.database_fault is None:
            return []
        warning = (
            "the database cannot be asked, so this run goes by this machine's clock and by the"
            f" containers' labels alone, and holds no guard: {self.database_fault}"
        )
        return [warning]


@dataclass(frozen=True)
class OrphanOptions:
    """How a run chooses and works.

    Attributes:
        job: the job's name, which its database connections carry.
        grace: how much longer than allowed a container may last.
        batch_size: most containers of a batch.
        ask_database: whether the runs of containers can be asked for.
        remove_all: choose every managed container, whatever its age.
        force: with remove_all, those of RUNNING runs too.
    """

    job: str
    grace: timedelta
    batch_size: int = BATCH_SIZE
    ask_database: bool = True
    remove_all: bool = False
    force: bool = False


@dataclass(frozen=True)
class OrphanWork:
    """What a run has chosen to remove, oldest first, and how it was told to choose."""

    options: OrphanOptions
    chosen: Sequence[ManagedContainer]


@task(
    name="choose cutoff, by the database if it answers", cache_policy=NO_CACHE, persist_result=False
)
def choose_cutoff_or_own_clock(job: str, as_of: datetime | None, *, dry_run: bool) -> Start:
    """Check the schema and read the database's clock; without an answer, take our own.

    It is asked once: what a container's labels say need not wait until the database is back.

    Raises:
        SchemaMismatch: a table or column is missing (SPEC 2.11).
        ParameterError: `as_of` lies in the future and the run would act (SPEC 2.1).
    """
    try:
        with transaction(engine_for(settings(), job), read_only=True) as connection:
            check_columns(connection, ACCESS[job])
            return Start(choose_cutoff(as_of, database_clock(connection), dry_run=dry_run))
    except DatabaseError as error:
        return Start(choose_cutoff(as_of, datetime.now(UTC), dry_run=dry_run), str(error))


@task(name="find orphaned containers", **TASK_OPTIONS)
def find_orphans(cutoff: Cutoff, options: OrphanOptions) -> Selection:
    """Return the containers that a run removes, oldest first, from one list of the engine.

    Raises:
        EngineUnavailable: the engine does not answer, or says that it is busy or broken.
        ContainerError: the engine may not be used, or is none.
    """
    return _choose(cutoff, options)


@task(name="remove orphaned containers", **TASK_OPTIONS)
def remove_orphans(
    _cutoff: Cutoff, cursor: int | None, share: SliceBudget, work: OrphanWork
) -> Slice[int]:
    """Stop and remove what was chosen, a few at a time; the cursor counts how many are behind.

    One container's failure is its own. What `remove_all` has chosen is looked up again first:
    a run may have begun meanwhile.

    Raises:
        EngineUnavailable: the engine was lost in the first batch of the slice.
        DatabaseError: the runs could not be looked up again.
    """
    with open_engine(settings()) as engine:

        def one_batch(place: int | None, _rows: int) -> Batch[int]:
            first = place or 0
            end = first + work.options.batch_size
            result = _remove(engine, work.chosen[first:end], work.options)
            return Batch(result, end, exhausted=end >= len(work.chosen))

        return work_slice(one_batch, cursor, share, block_sizer())


@task(name="count orphaned containers", **TASK_OPTIONS)
def count_orphans(cutoff: Cutoff, options: OrphanOptions) -> Overdue:
    """Count what `overdue_containers` counts, as a step of a run."""
    return overdue_containers(cutoff, options)


def overdue_containers(cutoff: Cutoff, options: OrphanOptions) -> Overdue:
    """Return how many containers are still to be removed, and the age of the oldest.

    Raises:
        EngineUnavailable: the engine does not answer, or says that it is busy or broken.
    """
    left = _choose(cutoff, options).orphans
    age = (cutoff.as_of - left[0].created).total_seconds() if left else None
    return Overdue(rows=len(left), oldest_age_seconds=age)


def previewed(chosen: Sequence[ManagedContainer]) -> BatchResult:
    """Return the result of a dry run."""
    return _selected(chosen)


def _choose(cutoff: Cutoff, options: OrphanOptions) -> Selection:
    current = settings()
    with open_engine(current) as engine:
        containers = engine.managed()
    moments = Moments(
        as_of=cutoff.as_of,
        now=cutoff.started_at,
        grace=options.grace,
        default_timeout=timedelta(seconds=current.validator_timeout_seconds),
    )
    known: Runs | None = None
    warnings = []
    if options.ask_database:
        try:
            known = _runs_of(containers, options.job)
        except DatabaseError as error:
            warnings.append(f"the runs of containers cannot be asked for: {error}")
    selection = select_orphans(containers, known or {}, moments)
    selection.warnings += warnings
    if options.remove_all and known is None:
        selection.warnings.append("remove_all removes nothing while runs cannot be asked for")
    elif options.remove_all and known is not None:
        selection.orphans = select_all(containers, known, force=options.force)
    return selection


def _runs_of(containers: Sequence[ManagedContainer], job: str) -> Runs:
    ids = sorted({container.run_id for container in containers if container.run_id})
    if not ids:
        return {}
    query = select(runs.c.id, runs.c.status, runs.c.ended_at).where(runs.c.id == any_uuid(ids))
    with transaction(engine_for(settings(), job), read_only=True) as connection:
        found = connection.execute(query).all()
    return {row.id: RunEnd(row.status, row.ended_at) for row in found}


def _remove(
    engine: ContainerEngine, batch: Sequence[ManagedContainer], options: OrphanOptions
) -> BatchResult:
    result = _selected(batch)
    if options.remove_all and options.ask_database and not options.force:
        known = _runs_of(batch, options.job)
        idle = [container for container in batch if not in_use(container, known)]
        result.skipped = len(batch) - len(idle)
        batch = idle

    def remove(one: ManagedContainer) -> ContainerRemoval | None:
        return None if stop_request.requested() else engine.remove(one.id, STOP_GRACE_SECONDS)

    with ThreadPoolExecutor(PARALLEL_REMOVALS) as pool:
        removals = list(pool.map(remove, batch))
    _check_engine(engine, [removal for removal in removals if removal])
    for container, removal in zip(batch, removals, strict=True):
        if removal is None:
            result.deferred += 1  # the run is to stop, and had not begun with it
        elif removal.error is None:
            result.done += 1  # absent, too: then somebody else has done it
        else:
            result.fail(container.item, removal.cause)
    return result


def _check_engine(engine: ContainerEngine, removals: Sequence[ContainerRemoval]) -> None:
    """Tell an engine that is away from a container that it cannot remove.

    Raises:
        EngineUnavailable: it is away; what was removed already is absent for the next attempt.
    """
    if any(isinstance(removal.error, EngineUnavailable) for removal in removals):
        engine.ping()


def _selected(containers: Sequence[ManagedContainer]) -> BatchResult:
    return BatchResult.selecting([int(container.id, 16) for container in containers])
