"""Runs as the watchdog leaves them before they are finished."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from maintenance import schema
from maintenance.report import BatchResult
from maintenance.timed_out import timed_out_error
from tests.support.validibot import DAY, NOW, Validibot

NEVER_FINISHED: dict[str, Any] = {"output_hash": "", "definition_released_at": None}


def timed_out_run(
    validibot: Validibot, submission_id: UUID | None, *, steps: Sequence[int] = (0,), **values: Any
) -> UUID:
    """A run that this job has ended; it came to these steps of its workflow, by their place."""
    row = {
        "status": "TIMED_OUT",
        "error_category": "TIMEOUT",
        "error": timed_out_error(30),
        "ended_at": NOW - DAY,
        "definition_released_at": None,
    }
    run_id = validibot.run(submission_id, **{**row, **values})
    for place in steps:
        validibot.step_run(
            run_id,
            workflow_step_id=validibot.step_ids[place],
            step_order=10 * place,
            status=f"s{place}",
        )
    return run_id


def manifests(validibot: Validibot) -> set[str]:
    """The files of evidence, by their paths."""
    return {path for path in validibot.files() if path.startswith("private/evidence/")}


def manifest_key(validibot: Validibot, run_id: UUID) -> str:
    """The key that a run's manifest should have."""
    return f"evidence/{validibot.org_id}/{run_id}/manifest.json"


def evidence_of(validibot: Validibot, run_id: UUID) -> dict[str, Any]:
    """A run's evidence row."""
    found = validibot.rows(schema.evidence).values()
    (row,) = [row for row in found if row["run_id"] == run_id]
    return row


def outcome(result: BatchResult) -> tuple[int, ...]:
    """Selected, done, failed, deferred, skipped."""
    return (result.selected, result.done, result.failed, result.deferred, result.skipped)
