"""The literals stored in the tables, as Validibot spells them.

A member equals its text (`RunStatus.RUNNING == "RUNNING"`) and can be bound to a statement. The
groups are tuples in the order of the literals in the database's constraints.
"""

from enum import StrEnum


class RunStatus(StrEnum):
    """The status of a run."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    TIMED_OUT = "TIMED_OUT"


class StepStatus(StrEnum):
    """The status of a step run."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PASSED = "PASSED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


class AttemptState(StrEnum):
    """The state of an execution attempt; the last four are final."""

    PENDING = "PENDING"
    DISPATCHING = "DISPATCHING"
    RUNNING = "RUNNING"
    UNKNOWN = "UNKNOWN"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    TIMED_OUT = "TIMED_OUT"


class ErrorCategory(StrEnum):
    """Why a run did not succeed; blank for a run that did."""

    VALIDATION_FAILED = "VALIDATION_FAILED"
    TIMEOUT = "TIMEOUT"
    OOM = "OOM"
    RUNTIME_ERROR = "RUNTIME_ERROR"
    SYSTEM_ERROR = "SYSTEM_ERROR"


class InputRetention(StrEnum):
    """How long a submission's content is kept."""

    DO_NOT_STORE = "DO_NOT_STORE"
    STORE_1_DAY = "STORE_1_DAY"
    STORE_7_DAYS = "STORE_7_DAYS"
    STORE_30_DAYS = "STORE_30_DAYS"
    STORE_PERMANENTLY = "STORE_PERMANENTLY"


class OutputRetention(StrEnum):
    """How long a run's outputs are kept."""

    DO_NOT_STORE = "DO_NOT_STORE"
    STORE_1_DAY = "STORE_1_DAY"
    STORE_7_DAYS = "STORE_7_DAYS"
    STORE_30_DAYS = "STORE_30_DAYS"
    STORE_90_DAYS = "STORE_90_DAYS"
    STORE_1_YEAR = "STORE_1_YEAR"
    STORE_PERMANENTLY = "STORE_PERMANENTLY"


class EvidenceAvailability(StrEnum):
    """Whether a run's evidence manifest was written."""

    GENERATED = "GENERATED"
    FAILED = "FAILED"


class IdempotencyKeyStatus(StrEnum):
    """Whether the request of an idempotency key has been answered."""

    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"


class CallbackReceiptStatus(StrEnum):
    """The outcome of a callback."""

    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    REJECTED = "REJECTED"


class ContinuationState(StrEnum):
    """The state of a continuation; the last two are final."""

    PENDING = "PENDING"
    DISPATCHING = "DISPATCHING"
    DISPATCHED = "DISPATCHED"
    EXECUTING = "EXECUTING"
    COMPLETED = "COMPLETED"
    NOT_REQUIRED = "NOT_REQUIRED"


TERMINAL_RUN_STATUSES = (
    RunStatus.SUCCEEDED,
    RunStatus.FAILED,
    RunStatus.CANCELED,
    RunStatus.TIMED_OUT,
)
"""A run in any other status, including an unknown one, is active."""

UNFINISHED_CONTINUATION_STATES = (
    ContinuationState.PENDING,
    ContinuationState.DISPATCHING,
    ContinuationState.DISPATCHED,
    ContinuationState.EXECUTING,
)
"""Validibot will start the next step of the run, or is executing it."""

ACTIVE_STEP_STATUSES = (StepStatus.PENDING, StepStatus.RUNNING)

ACTIVE_ATTEMPT_STATES = (
    AttemptState.PENDING,
    AttemptState.DISPATCHING,
    AttemptState.RUNNING,
    AttemptState.UNKNOWN,
)
