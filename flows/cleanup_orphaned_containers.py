"""cleanup-orphaned-containers: remove validator containers that no validation run needs."""

from datetime import timedelta
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.job import Job
from flows.parameters import AsOf, BatchSize, DryRun, MaxBatches, TimeBudget
from flows.run.perform import perform
from flows.run.run import Run
from flows.run.run_name import run_name
from maintenance.containers.engine import why_no_engine
from maintenance.cutoff import Cutoff
from maintenance.report import Overdue, Report
from maintenance.settings import settings
from tasks.orphaned_containers import (
    BATCH_SIZE,
    OrphanOptions,
    OrphanWork,
    choose_cutoff_or_own_clock,
    count_orphans,
    find_orphans,
    overdue_containers,
    previewed,
    remove_orphans,
)

GRACE_SECONDS = 300
GracePeriod = Annotated[float, Field(ge=0, le=86_400)]


@flow(name="cleanup-orphaned-containers", flow_run_name=run_name, validate_parameters=True)
def cleanup_orphaned_containers(
    dry_run: DryRun = False,
    as_of: AsOf = None,
    batch_size: BatchSize = None,
    time_budget: TimeBudget = None,
    max_batches: MaxBatches = None,
    grace_period_seconds: GracePeriod = GRACE_SECONDS,
    remove_all: bool = False,
    force: bool = False,
) -> Report:
    """Remove validator containers that no validation run needs.

    Selected, among the containers with the label `org.validibot.managed=true`: those older than
    their own timeout plus the grace period, and those whose run ended longer ago than the grace
    period. If a label cannot be read, the container engine's creation time or the default timeout
    is used instead, and the report says so. Each container is inspected again, gets 10 seconds to
    stop, and is removed with its anonymous volumes; four at a time.

    Never touched: containers without the label, containers of other engines, named volumes, images.

    If this deployment has no container engine (`DEPLOYMENT_TARGET`), the run ends as Skipped. If
    the engine does not answer, the run fails. If the database cannot be reached, only the age of
    the containers counts, and the report says so.

    Args:
        dry_run: Only report what a run would do. Nothing is stopped or removed.
        as_of: The moment to work up to, in UTC unless it has a zone. Empty: the database's current
            time. A moment in the future is allowed only in a dry run, as a forecast.
        batch_size: Maximum number of containers in a batch, 1 to 50,000. Empty: 16.
        time_budget: Seconds after which the run stops and leaves the rest to the next run; above 0,
            at most 86,400. Empty: the worker's setting, or 4 minutes.
        max_batches: Stop after this many batches; at least 1. Empty: no limit.
        grace_period_seconds: Seconds that a container may exist longer than allowed; 0 to 86,400.
        remove_all: Remove every managed container whatever its age, except those whose run is
            RUNNING. If the database cannot be reached, only orphans are removed.
        force: With `remove_all`, also remove the containers of RUNNING runs.
    """
    idle_because = why_no_engine(settings())
    start = choose_cutoff_or_own_clock(JOB.name, as_of, dry_run=dry_run)
    options = OrphanOptions(
        JOB.name,
        grace=timedelta(seconds=grace_period_seconds),
        batch_size=batch_size or BATCH_SIZE,
        ask_database=start.database_fault is None,
        remove_all=remove_all,
        force=force,
    )
    budget = JOB.budget(time_budget, max_batches)
    run = Run(JOB.name, start.cutoff, options, budget, dry_run, count_overdue=JOB.count_overdue)
    run.report.warnings += start.warnings
    return perform(
        run,
        preview=_preview,
        work=_work,
        idle_because=idle_because,
        guarded=options.ask_database,
    )


def _preview(run: Run) -> None:
    found = run.once(find_orphans)
    run.warn(found.warnings)
    run.report.add(previewed(found.orphans))


def _work(run: Run) -> None:
    found = run.once(find_orphans)
    run.warn(found.warnings)
    run.drain(remove_orphans, OrphanWork(run.options, found.orphans))
    run.report.overdue = run.observe(count_orphans, run.cutoff, run.options)


def _count_overdue(cutoff: Cutoff, job: str) -> Overdue | None:
    if why_no_engine(settings()):
        return None
    return overdue_containers(cutoff, OrphanOptions(job, timedelta(seconds=GRACE_SECONDS)))


JOB = Job(
    cleanup_orphaned_containers,
    schedule="*/10 * * * *",
    time_budget=timedelta(minutes=4),
    count_overdue=_count_overdue,
    due_after=None,  # each container's labels say how long it may exist
)
