"""The error text of a run that was timed out (SPEC 6.2), and the pattern that finds it (6.4)."""

from typing import Final

ERROR: Final = (
    "Run timed out after {minutes} minutes - no callback received from validator. This may indicate"
    " the validator crashed or the callback failed to reach the server."
)

ERROR_LIKE: Final = "Run timed out after % minutes - no callback received from validator.%"
"""The LIKE pattern of every such text, including those of Validibot's own watchdog."""

ATTEMPT_ERROR_CODE: Final = "run_timed_out"


def timed_out_error(minutes: int) -> str:
    """Return the error text of a run that was timed out after `minutes`."""
    return ERROR.format(minutes=minutes)
