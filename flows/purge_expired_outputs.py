"""purge-expired-outputs: remove findings, artifacts and files of runs past their retention."""

from dataclasses import replace
from datetime import timedelta

from prefect import flow

from flows.job import Job
from flows.parameters import AsOf, BatchSize, DryRun, MaxBatches, TimeBudget
from flows.restores import refuse_restored_database, remember_what_was_stamped
from flows.run.perform import perform
from flows.run.prefect_context import has_server
from flows.run.run import Run
from flows.run.run_name import run_name
from maintenance.report import Report
from maintenance.settings import settings
from maintenance.storage.missing import FileCount
from tasks.preflight import choose_run_cutoff
from tasks.purge.failure_history import count_failures
from tasks.purge.options import PurgeOptions
from tasks.purge.outputs import (
    count_overdue_outputs,
    overdue_outputs,
    preview_outputs,
    preview_undated_outputs,
    purge_outputs,
    purge_undated_outputs,
    repair_output_deadlines,
)


@flow(name="purge-expired-outputs", flow_run_name=run_name, validate_parameters=True)
def purge_expired_outputs(
    dry_run: DryRun = False,
    as_of: AsOf = None,
    batch_size: BatchSize = None,
    time_budget: TimeBudget = None,
    max_batches: MaxBatches = None,
    accept_missing_files: bool = False,
) -> Report:
    """Remove findings, artifacts and files of runs past their output retention.

    Selected: runs that have ended, still have their outputs, and have `output_expires_at` up to
    the cutoff; runs that must not be stored, or have an unknown policy, 60 seconds after their
    end; oldest first. Before that, missing deadlines of ended runs and of their submissions are
    computed.

    Deleted: the files of all artifacts, the whole bundle in both layouts, the rows of findings and
    artifacts. Cleared: the outputs, values and errors of the run and its steps. Kept: status,
    category, timings, summaries, the evidence row and its manifest.

    Never touched: active runs, permanent outputs, anything outside the storage roots. A run whose
    purge fails is selected again by the next scheduled run; after five failures in a row it raises
    an alert.

    Args:
        dry_run: Only report what a run would do. Nothing is written or deleted.
        as_of: The moment to work up to, in UTC unless it has a zone. Empty: the database's current
            time. A moment in the future is allowed only in a dry run, as a forecast.
        batch_size: Maximum number of rows in a batch, 1 to 50,000. Batches adapt to their target
            time below this maximum. Empty: the worker's setting.
        time_budget: Seconds after which the run stops and leaves the rest to the next run; above 0,
            at most 86,400. Empty: the worker's setting, or 20 minutes.
        max_batches: Stop after this many batches; at least 1. Empty: no limit.
        accept_missing_files: Continue although many files that rows name are missing, and none was
            found. Use it once, after you made sure that the storage is complete and mounted.
    """
    files = FileCount(accepted=accept_missing_files)
    options = PurgeOptions(JOB.name, batch_size or settings().batch_size, files=files)
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
    return perform(run, preview=_preview, work=_work)


def _preview(run: Run) -> None:
    refuse_restored_database(run)
    run.drain(preview_undated_outputs)
    run.drain(preview_outputs)


def _work(run: Run) -> None:
    look = refuse_restored_database(run)
    found = run.drain_secondary(repair_output_deadlines)
    run.drain(purge_outputs)
    if found is not None:
        run.drain(purge_undated_outputs, replace(run.options, candidates=found))
    remember_what_was_stamped(run, "run", look)
    run.report.overdue = run.observe(count_overdue_outputs, run.cutoff, run.options)
    if has_server():  # the counts of earlier runs are kept there
        run.report.alerts = count_failures(run.job, run.report.failed_items)


JOB = Job(
    purge_expired_outputs,
    schedule="0 * * * *",
    time_budget=timedelta(minutes=20),
    count_overdue=overdue_outputs,
)
