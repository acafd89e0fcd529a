"""What is written on a run that the watchdog ended (SPEC 6.2), and how it is known again (6.4)."""

from typing import Final

ERROR: Final = (
    "Run timed out after {minutes} minutes - no callback received from validator. This may indicate"
    " the validator crashed or the callback failed to reach the server."
)

ERROR_LIKE: Final = "Run timed out after % minutes - no callback received from validator.%"
"""The pattern of SQL's LIKE that every such text matches, those of Validibot's own watchdog too."""

ATTEMPT_ERROR_CODE: Final = "run_timed_out"


def timed_out_error(minutes: int) -> str:
    """Return the error text of a run that hung for so many minutes."""
    return ERROR.format(minutes=minutes)
