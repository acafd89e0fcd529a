"""The tasks of cleanup-orphaned-containers: find, preview, remove, count the rest (SPEC 7)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE
from sqlalchemy import select

from maintenance import stop_request
from maintenance.access import ACCESS
from maintenance.budget import BatchSizer, SliceBudget
from maintenance.catalogue import check_schema
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
from tasks.retrying import COUNT_OPTIONS, TASK_OPTIONS

STOP_GRACE_SECONDS = 10.0
"""Time that a container has to exit before it is killed."""

PARALLEL_REMOVALS = 4
BATCH_SIZE = 4 * PARALLEL_REMOVALS
"""Default of the most containers of a batch: stopping them takes 40 seconds at worst."""


@dataclass(frozen=True)
class Start:
    """The cutoff of a run, and why the database is unavailable, if it is."""

    cutoff: Cutoff
    database_fault: str | None = None

    @property
    def warnings(self) -> list[str]:
        """The warning for the report."""
        if self.database_fault is None:
            return []
        warning = (
            "the database is unavailable, so this run uses this machine's clock and the containers'"
            f" labels alone, and holds no guard: {self.database_fault}"
        )
        return [warning]


@dataclass(frozen=True)
class OrphanOptions:
    """The options of a run.

    Attributes:
        job: the job's name, used as application_name of its connections.
        grace: the grace period after a container's time-out or its run's end.
        batch_size: most containers of a batch.
        ask_database: whether the database is available.
        remove_all: select every managed container, whatever its age.
        force: with remove_all, also those of RUNNING runs.
    """

    job: str
    grace: timedelta
    batch_size: int = BATCH_SIZE
    ask_database: bool = True
    remove_all: bool = False
    force: bool = False


@dataclass(frozen=True)
class OrphanWork:
    """The selected containers, oldest first, and the options of the run."""

    options: OrphanOptions
    selected: Sequence[ManagedContainer]


@task(
    name="choose cutoff, by the database if it answers", cache_policy=NO_CACHE, persist_result=False
)
def choose_cutoff_or_own_clock(job: str, as_of: datetime | None, *, dry_run: bool) -> Start:
    """Check the schema and read the database's clock; without an answer, use this machine's.

    There is no retry: the label rule does not need the database.

    Raises:
        SchemaMismatch: a table or column is missing (SPEC 2.11).
        ParameterError: `as_of` is in the future and this is not a dry run (SPEC 2.1).
    """
    try:
        with transaction(engine_for(settings(), job), read_only=True) as connection:
            check_schema(connection, ACCESS[job], writes=not dry_run)
            return Start(choose_cutoff(as_of, database_clock(connection), dry_run=dry_run))
    except DatabaseError as error:
        return Start(choose_cutoff(as_of, datetime.now(UTC), dry_run=dry_run), str(error))


@task(name="find orphaned containers", **TASK_OPTIONS)
def find_orphans(cutoff: Cutoff, options: OrphanOptions) -> Selection:
    """Return the containers to remove, oldest first, from one list of the container engine.

    Raises:
        EngineUnavailable: no answer in time, or a 5xx or 429.
        ContainerError: the engine may not be used, or is no engine.
    """
    return _choose(cutoff, options)


@task(name="remove orphaned containers", **TASK_OPTIONS)
def remove_orphans(
    _cutoff: Cutoff, cursor: int | None, share: SliceBudget, work: OrphanWork
) -> Slice[int]:
    """Stop and remove the selected containers; the cursor is the number of those already handled.

    A container's failure does not affect the others. With `remove_all` the runs are read again
    before each batch, because one may have started meanwhile.

    Raises:
        EngineUnavailable: the engine became unavailable in the first batch of the slice.
        DatabaseError: the runs could not be read again.
    """
    with open_engine(settings()) as engine:

        def one_batch(place: int | None, _rows: int) -> Batch[int]:
            first = place or 0
            end = first + work.options.batch_size
            result = _remove(engine, work.selected[first:end], work.options)
            return Batch(result, end, exhausted=end >= len(work.selected))

        # Batches are of one size: the sizer has nothing to adapt.
        return work_slice(one_batch, cursor, share, BatchSizer(1, settings().batch_seconds))


@task(name="count orphaned containers", **COUNT_OPTIONS)
def count_orphans(cutoff: Cutoff, options: OrphanOptions) -> Overdue:
    """Count what `overdue_containers` counts, as a step of a run."""
    return overdue_containers(cutoff, options)


def overdue_containers(cutoff: Cutoff, options: OrphanOptions) -> Overdue:
    """Return how many orphans are left, and the age of the oldest.

    Raises:
        EngineUnavailable: no answer in time, or a 5xx or 429.
    """
    left = _choose(cutoff, options).orphans
    age = (cutoff.as_of - left[0].created).total_seconds() if left else None
    return Overdue(rows=len(left), oldest_age_seconds=age)


def previewed(selected: Sequence[ManagedContainer]) -> BatchResult:
    """Return the result of a dry run."""
    return _selected(selected)


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
            warnings.append(f"the runs of containers cannot be read: {error}")
    selection = select_orphans(containers, known or {}, moments)
    selection.warnings += warnings
    if options.remove_all and known is None:
        selection.warnings.append("remove_all removes nothing while the runs cannot be read")
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
            result.deferred += 1  # the run was asked to stop before this one was started
        elif removal.error is None:
            result.done += 1  # removed, or absent before
        else:
            result.fail(container.item, removal.cause)
    return result


def _check_engine(engine: ContainerEngine, removals: Sequence[ContainerRemoval]) -> None:
    """Distinguish an unavailable engine from a container that it cannot remove.

    Raises:
        EngineUnavailable: it is unavailable; a retry finds removed containers absent.
    """
    if any(isinstance(removal.error, EngineUnavailable) for removal in removals):
        engine.ping()


def _selected(containers: Sequence[ManagedContainer]) -> BatchResult:
    return BatchResult.selecting([int(container.id, 16) for container in containers])
