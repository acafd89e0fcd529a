"""What the sample is known to contain."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SampleSummary:
    """The truth about a loaded sample, as of the moment it was made for.

    Every submission is in exactly one of the groups `expired` to `unknown_policy`, and every run
    in exactly one of the groups `runs_active` to `outputs_unstamped_later`.
    """

    rows: Mapping[str, int]
    """Rows by table name."""
    files: int
    file_bytes: int

    expired: int
    """Past the deadline, which is right, without an active run: eligible for a purge."""
    live: int
    """Not yet past the deadline."""
    permanent: int
    do_not_store_queued: int
    do_not_store_unqueued: int
    active_overdue: int
    """With an active run, and past the deadline that an earlier run set."""
    active_in_time: int
    """With an active run, and no deadline yet."""
    purged: int
    missing_deadline_due: int
    """Finite policy, no active run, no deadline; once computed, it is past."""
    missing_deadline_later: int
    """The same; once computed, it is in the future."""
    wrong_deadline: int
    """Past the stored deadline; once recomputed, it is in the future."""
    unknown_policy: int
    """Past the stored deadline, under an unknown policy: becomes do-not-store."""

    purge_retries_due: int
    purge_retries_later: int
    port_files_kept: int
    """Port files that are not purged."""

    runs_active: int
    outputs_due: int
    """Past the output retention and not purged; do-not-store included."""
    outputs_live: int
    outputs_permanent: int
    outputs_purged: int
    outputs_unstamped_due: int
    """Finished without an output deadline; once computed, it is past."""
    outputs_unstamped_later: int
    runs_stuck: int
    """Of the active runs: those that hang, at a time-out of 30 minutes."""
    runs_interrupted: int
    """Of the active runs: those whose next step Validibot has yet to start; none before 0.16."""

    sessions_expired: int
    sessions_live: int
    idempotency_keys_expired: int
    idempotency_keys_live: int
    receipts_old_terminal: int
    """Older than 30 days, of a finished run."""
    receipts_old_active: int
    """Older than 30 days, of a run that is still active."""
    receipts_recent: int

    @property
    def due_after_repair(self) -> int:
        """Submissions that a purge of what is expired acts on, deadlines repaired first."""
        return self.expired + self.missing_deadline_due
