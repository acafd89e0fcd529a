"""What the sample is to contain."""

from dataclasses import dataclass, fields

SESSIONS_PER_SUBMISSION = 2
KEYS_PER_SUBMISSION = 1


@dataclass(frozen=True)
class SampleSpec:
    """How much sample data, and of which kinds.

    The shares that sort submissions are exact: of 1,000 with an `odd_share` of 0.05, 50 are odd.
    What they leave over are ordinary submissions with a finite retention policy; `expired_share`
    of those are past their deadline, the others are not. Shares of runs are probabilities.
    """

    submissions: int = 1_000
    sessions: int | None = None
    """Twice the submissions when not given."""
    idempotency_keys: int | None = None
    """As many as submissions when not given."""
    receipts_per_attempt: int = 1
    """Callback receipts of each completed attempt; those after the first are refused repeats."""
    seed: int = 1

    expired_share: float = 0.5
    """Of the ordinary submissions: past the deadline and eligible for a purge."""
    active_share: float = 0.05
    """Submissions with an active run; half of them are past their deadline."""
    odd_share: float = 0.05
    """In equal parts: a missing deadline that is due, one that is not, a wrong deadline, and an
    unknown policy. Also the share of finished runs without an output deadline."""
    permanent_share: float = 0.10
    do_not_store_share: float = 0.10
    """Half of them queued for a purge, half not yet."""
    purged_share: float = 0.05
    """Submissions whose content is gone already."""
    stuck_share: float = 0.25
    """Of the active runs: hanging past their time-out."""
    interrupted_share: float = 0.1
    """Of the other active runs, where there are continuations: the next step is yet to come."""
    runless_share: float = 0.02
    """Of the ordinary submissions: never run, so that the deadline counts from their creation."""
    outputs_purged_share: float = 0.20
    """Of the runs past their output retention: purged already."""
    older_layout_share: float = 0.15
    """Of the runs: bundle in the older layout below public/."""
    stale_share: float = 0.7
    """Of the sessions, and of the idempotency keys: expired."""

    content_bytes: int = 2_000
    """Size of each submission's content, inline or file."""
    with_files: bool = True
    """Whether the files that the rows name are written to the storage root."""
    check_references: bool = True
    """Whether the database checks foreign keys while it loads. Not to takes a third less time, and
    a superuser."""
    chunk: int = 2_000
    """Submissions a transaction."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_share") and not 0 <= value <= 1:
                raise ValueError(f"{field.name} must be between 0 and 1, not {value}")
        for name, least in (("submissions", 0), ("content_bytes", 100), ("chunk", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("sessions", "idempotency_keys", "receipts_per_attempt"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must not be negative, and is {getattr(self, name)}")
        if self.special_share > 1 + 1e-9:
            raise ValueError(f"the special shares add up to {self.special_share:.2f}, more than 1")

    @property
    def special_share(self) -> float:
        """The share of submissions that are not ordinary."""
        return (
            self.active_share
            + self.odd_share
            + self.permanent_share
            + self.do_not_store_share
            + self.purged_share
        )

    @property
    def session_count(self) -> int:
        """How many sessions to make."""
        if self.sessions is None:
            return SESSIONS_PER_SUBMISSION * self.submissions
        return self.sessions

    @property
    def idempotency_key_count(self) -> int:
        """How many idempotency keys to make."""
        if self.idempotency_keys is None:
            return KEYS_PER_SUBMISSION * self.submissions
        return self.idempotency_keys
