"""The registry of jobs: what `python -m flows` runs, what is deployed, and what is monitored.

Each entry is defined at the end of its flow's file.
"""

from flows import (
    cleanup_callback_receipts,
    cleanup_idempotency_keys,
    cleanup_orphaned_containers,
    cleanup_stuck_runs,
    clear_sessions,
    process_purge_retries,
    purge_expired_outputs,
    purge_expired_submissions,
    reclaim_residue,
)

JOBS = {
    job.name: job
    for job in (
        purge_expired_submissions.JOB,
        purge_expired_outputs.JOB,
        process_purge_retries.JOB,
        cleanup_stuck_runs.JOB,
        cleanup_orphaned_containers.JOB,
        cleanup_idempotency_keys.JOB,
        cleanup_callback_receipts.JOB,
        clear_sessions.JOB,
        reclaim_residue.JOB,
    )
}
"""Every job by its name, in the order in which they are listed."""
