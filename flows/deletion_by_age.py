"""The parts that the three flows share that delete rows by age alone (SPEC 7)."""

from datetime import timedelta
from functools import partial
from typing import Any

from prefect import Flow

from flows.job import Job
from flows.run.perform import perform
from flows.run.run import Run
from maintenance.cutoff import Cutoff
from maintenance.expiring import ExpiringTable
from maintenance.report import Overdue, Report
from tasks.expiry.expired_rows import (
    DeleteOptions,
    check_indexes,
    count_expired,
    delete_expired,
    overdue_rows,
    preview_expired,
)

COUNT_BATCH_SIZE = 1_000


def deletion_job(flow: Flow[..., Any], schedule: str, expiring: ExpiringTable) -> Job:
    """Return the job whose flow deletes the expired rows of a table."""
    return Job(
        flow,
        schedule,
        time_budget=timedelta(minutes=20),
        count_overdue=partial(_count_overdue, expiring=expiring),
        due_after=expiring.age,
        expiring=expiring,
    )


def delete_by_age(run: Run) -> Report:
    """Delete the expired rows of a table, or count them in a dry run.

    Args:
        run: the run; its options are `DeleteOptions`.

    Returns:
        The run's final state (`perform`).
    """
    run.report.cutoff = run.options.limit(run.cutoff)
    run.report.warnings += check_indexes(run.options)
    return perform(run, preview=_preview, work=_work)


def _preview(run: Run) -> None:
    run.drain(preview_expired)


def _work(run: Run) -> None:
    # A batch is not flushed to disk by itself, so a crash of the database can bring rows back.
    reached = run.drain(delete_expired, resumable=False)
    run.report.overdue = run.observe(count_expired, run.cutoff, run.options, reached)


def _count_overdue(cutoff: Cutoff, job: str, *, expiring: ExpiringTable) -> Overdue:
    return overdue_rows(cutoff, DeleteOptions(job, expiring, COUNT_BATCH_SIZE))
