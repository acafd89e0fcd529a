"""reclaim-residue: remove what purges have left, and run bundles without a run row."""

from datetime import timedelta

from prefect import flow

from flows.job import Job, no_backlog
from flows.parameters import AsOf, BatchSize, DryRun, MaxBatches, TimeBudget
from flows.restores import refuse_restored_database
from flows.run.perform import perform
from flows.run.run import Run
from flows.run.run_name import run_name
from maintenance.report import Report
from maintenance.settings import settings
from tasks.preflight import choose_run_cutoff
from tasks.residue.bundles import reclaim_bundles
from tasks.residue.options import ResidueOptions
from tasks.residue.rows import reclaim_run_rows, reclaim_submission_rows


@flow(name="reclaim-residue", flow_run_name=run_name, validate_parameters=True)
def reclaim_residue(
    dry_run: DryRun = True,
    as_of: AsOf = None,
    batch_size: BatchSize = None,
    time_budget: TimeBudget = None,
    max_batches: MaxBatches = None,
) -> Report:
    """Remove what stamped rows still hold, and run bundles without a run row.

    Without `dry_run` set to false it only reports. Run it by hand, or resume its schedule, which is
    off at first.

    Removed, whichever system has stamped the rows: the run bundles of purged runs, in both layouts;
    the copied inputs in the bundles of purged submissions; the files that stamped rows still name;
    and what their rows, findings, artifacts, steps, attempts and input traces hold and a purge
    clears. Also removed: run bundles whose run has no row, if their newest file is older than a
    week.

    Never touched: what is not stamped, active runs and submissions with an active run, outputs
    whose retention has not ended, the evidence, anything outside the storage roots. The report
    counts items, rows, files and bytes by kind.

    Args:
        dry_run: Only report what a run would do. This is the default: set it to false to remove.
        as_of: The moment to work up to, in UTC unless it has a zone. Empty: the database's current
            time. A moment in the future is allowed only in a dry run, as a forecast.
        batch_size: Maximum number of bundles or rows that are looked at in a batch, 1 to 50,000.
            Empty: the worker's setting.
        time_budget: Seconds after which the run stops and leaves the rest to the next run; above 0,
            at most 86,400. Empty: the worker's setting, or 20 minutes.
        max_batches: Stop after this many batches in which something was found; at least 1. Empty:
            no limit.
    """
    rows = batch_size or settings().batch_size
    options = ResidueOptions(JOB.name, rows, dry_run=dry_run)
    cutoff = choose_run_cutoff(JOB.name, as_of, dry_run=dry_run)
    budget = JOB.budget(time_budget, max_batches)
    run = Run(
        JOB.name,
        cutoff,
        options,
        budget,
        dry_run,
        first_rows=batch_size,
        count_overdue=JOB.count_overdue,
    )
    return perform(run, preview=_steps, work=_steps)


def _steps(run: Run) -> None:
    refuse_restored_database(run)
    run.drain(reclaim_bundles)
    run.drain(reclaim_run_rows)
    run.drain(reclaim_submission_rows)


JOB = Job(
    reclaim_residue,
    schedule="0 5 * * 0",
    time_budget=timedelta(minutes=20),
    count_overdue=no_backlog,
    off_at_first=True,
)
