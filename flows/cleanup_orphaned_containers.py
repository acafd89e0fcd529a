"""cleanup-orphaned-containers: remove validator containers that nobody waits for any more."""

from contextlib import nullcontext
from datetime import timedelta
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.parameters import AsOf, BatchSize, DryRun, MaxBatches, TimeBudget
from flows.run.lifecycle import drain, finish, idle, published, run_id, skip
from maintenance.budget import Budget
from maintenance.containers.engine import why_no_engine
from maintenance.guard import guard
from maintenance.report import Report
from maintenance.settings import settings
from tasks.orphaned_containers import (
    BATCH_SIZE,
    OrphanOptions,
    OrphanWork,
    choose_cutoff_or_own_clock,
    count_orphans,
    find_orphans,
    previewed,
    remove_orphans,
)

JOB = "cleanup-orphaned-containers"
SCHEDULE = "*/10 * * * *"
TIME_BUDGET = timedelta(minutes=4)
GRACE_SECONDS = 300
GracePeriod = Annotated[float, Field(ge=0, le=86_400)]


@flow(name=JOB, validate_parameters=True)
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
    """Remove validator containers that nobody waits for any more.

    Selected, of the containers that carry the label `org.validibot.managed=true`: those older than
    their own timeout and the grace period, and those whose run has ended for longer than the grace
    period. Labels that cannot be read are replaced by the engine's creation time and the default
    timeout, and reported. Each container is looked at again, gets 10 seconds to end, and is
    removed with its anonymous volumes; four at a time.

    Never touched: containers without the label, containers of other engines, named volumes, images.

    Without a container engine (`DEPLOYMENT_TARGET`) the run ends as Skipped; with one that does not
    answer it fails. When the database cannot be asked, only the containers' own age counts, and the
    report says so.

    Args:
        dry_run: Only say what a run would do. Nothing is stopped or removed.
        as_of: The moment to work up to; UTC without a zone. Empty: the database's time now. A
            moment in the future is allowed in a dry run only, as a forecast.
        batch_size: Most containers of one batch, 1 to 50,000. Empty: 16.
        time_budget: Seconds after which the run stops and leaves the rest to the next one; above
            0, at most 86,400. Empty: the worker's setting, or 4 minutes.
        max_batches: Stop after so many batches; at least 1. Empty: no limit.
        grace_period_seconds: How many seconds longer than allowed a container may last; 0 to
            86,400.
        remove_all: Remove every managed container whatever its age, but for those whose run is
            RUNNING. Removes only orphans when the database cannot be asked.
        force: With `remove_all`, remove the containers of RUNNING runs too.
    """
    current = settings()
    start = choose_cutoff_or_own_clock(JOB, as_of, dry_run=dry_run)
    cutoff = start.cutoff
    budget = Budget(time_budget or current.time_budget(TIME_BUDGET), max_batches)
    options = OrphanOptions(
        JOB,
        grace=timedelta(seconds=grace_period_seconds),
        batch_size=batch_size or BATCH_SIZE,
        ask_database=start.database_fault is None,
        remove_all=remove_all,
        force=force,
    )
    report = Report(job=JOB, dry_run=dry_run, as_of=cutoff.as_of, warnings=start.warnings)
    no_engine = why_no_engine(current)
    if dry_run:
        if no_engine:
            return idle(report, no_engine)
        with published(report):
            found = find_orphans(cutoff, options)
            report.warnings += found.warnings
            report.add(previewed(found.orphans))
        return finish(report)
    holding = guard(current, JOB, run_id()) if options.ask_database else nullcontext()
    with holding as held:
        if held is not None and not held.acquired:
            return skip(report, held)
        if no_engine:
            return idle(report, no_engine)
        with published(report):
            found = find_orphans(cutoff, options)
            report.warnings += found.warnings
            drain(remove_orphans, cutoff, OrphanWork(options, found.orphans), report, budget, held)
            report.overdue = count_orphans(cutoff, options)
    return finish(report)
