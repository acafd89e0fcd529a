"""Runs that hang, and those that only look like it, made one by one."""

import uuid
from datetime import timedelta
from typing import Any

from maintenance.timed_out import timed_out_error
from tests.support.validibot import NOW, TICK, Validibot

MINUTE = timedelta(minutes=1)
TIMEOUT = 30 * MINUTE
CUTOFF = NOW - TIMEOUT
"""What started here, exactly, goes on."""


class Hanging:
    """A builder of RUNNING runs of one Validibot."""

    def __init__(self, validibot: Validibot) -> None:
        self.validibot = validibot

    def run(self, submission_id: uuid.UUID | None = None, **values: Any) -> uuid.UUID:
        """A run that started a tick too early to go on, with a step that is being run."""
        started = values.get("started_at", CUTOFF - TICK)
        row = {
            "status": "RUNNING",
            "created": (started or CUTOFF) - MINUTE,
            "started_at": started,
            "ended_at": None,
            "definition_released_at": None,
            "user_id": self.validibot.user_id,
        }
        return self.validibot.run(submission_id, **{**row, **values})

    def left(self, submission_id: uuid.UUID | None = None, **values: Any) -> uuid.UUID:
        """A run that the job has ended, and not finished."""
        row = {
            "status": "TIMED_OUT",
            "error_category": "TIMEOUT",
            "error": timed_out_error(30),
            "ended_at": NOW,
        }
        return self.run(submission_id, **{**row, **values})

    def step(self, run_id: uuid.UUID, number: int = 1, **values: Any) -> int:
        """A step of it, which is being run."""
        row = {
            "status": "RUNNING",
            "step_order": 10 * number,
            "workflow_step_id": self.validibot.step_ids[number - 1],
        }
        return self.validibot.step_run(run_id, **{**row, **values})

    def attempt(self, step_run_id: int, **values: Any) -> uuid.UUID:
        """An attempt at a step, which is active and has no deadline."""
        row = {"state": "RUNNING", "created": CUTOFF - MINUTE, "timeout_at": None}
        return self.validibot.attempt(step_run_id, **{**row, **values})

    def tried(self, run_id: uuid.UUID, **values: Any) -> uuid.UUID:
        """An attempt at a first step of the run."""
        return self.attempt(self.step(run_id), **values)
