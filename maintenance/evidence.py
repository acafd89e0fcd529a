"""The formats of a run's evidence, byte for byte as Validibot writes them (SPEC 6.4).

Two things are computed from the rows of a run that has ended: the output hash, and the evidence
manifest, which records what was validated, with which validators, and the result. JSON is
canonical: keys sorted, no spaces, non-ASCII characters escaped, no newline at the end.

Values and times are passed as JSON text from the database and parsed here, so that a value that
Python cannot read fails its own run only.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

SCHEMA: Final = "https://validibot.com/schemas/evidence-manifest-v2.json"

KEY: Final = "evidence/{org_id}/{run_id}/manifest.json"
"""The key of a manifest below the private root."""

MAX_ERROR_CHARACTERS: Final = 5_000

NOT_RUN: Final = "NOT_RUN"
"""The status in a manifest of a step that was not run."""


@dataclass(frozen=True, slots=True)
class StepRun:
    """The result of one step; the values are JSON text."""

    workflow_step_id: int
    step_key: str | None
    step_order: int
    status: str
    input_values: str
    output_values: str
    error: str
    image_digest: str


@dataclass(frozen=True, slots=True)
class WorkflowStep:
    """A step of a workflow that has a validator."""

    id: int
    step_key: str
    validator: str
    validator_version: int


@dataclass(frozen=True, slots=True)
class Workflow:
    """The workflow of a run, with its steps that have a validator, in their order."""

    slug: str
    version: int
    steps: Sequence[WorkflowStep]


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the database holds it.

    Attributes:
        id: the run.
        org_id: its organization.
        user_id: the user who started it.
        status: the final status.
        started_at: JSON text, `null` when it has not started.
        ended_at: JSON text.
        duration_ms: milliseconds from start to end.
        output_hash: the stored hash, blank when there is none.
        has_outputs: whether its output values exist; after they are purged no hash is computed.
        checksum: the submission's, None without a submission.
        submission_name: blank or None without a submission.
        counts: `error_count`, `warning_count`, `info_count` and `total_findings`.
        workflow: the workflow that was run.
        steps: the step runs, ordered by `step_order`, then id.
    """

    id: UUID
    org_id: int
    user_id: int | None
    status: str
    started_at: str
    ended_at: str
    duration_ms: int
    output_hash: str
    has_outputs: bool
    checksum: str | None
    submission_name: str | None
    counts: Mapping[str, int]
    workflow: Workflow
    steps: Sequence[StepRun]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest to be stored; `output_hash` is blank when the run can have none."""

    key: str
    content: bytes
    output_hash: str

    @property
    def sha256(self) -> str:
        """The SHA-256 of its bytes, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


def manifest(run: Run) -> Manifest:
    """Return a run's manifest, with its output hash computed if it lacks one.

    Raises:
        ValueError: a value or a time cannot be read.
        RecursionError: a value is nested too deeply.
    """
    output_hash = run.output_hash
    if not output_hash and run.has_outputs:
        output_hash = hashlib.sha256(hashed_bytes(run)).hexdigest()
    content = manifest_bytes(run, output_hash)
    return Manifest(KEY.format(org_id=run.org_id, run_id=run.id), content, output_hash)


def hashed_bytes(run: Run) -> bytes:
    """Return the bytes that a run's output hash is computed from."""
    return _canonical(
        {
            **run.counts,
            "run_id": str(run.id),
            "content_hash": run.checksum or "",
            "user_id": run.user_id,
            "submission_name": run.submission_name or None,
            "status": run.status,
            "started_at": _moment(run.started_at),
            "ended_at": _moment(run.ended_at),
            "duration_ms": run.duration_ms,
            "steps": [
                {
                    "step_key": step.step_key,
                    "step_order": step.step_order,
                    "status": step.status,
                    "input_values": json.loads(step.input_values),
                    "output_values": json.loads(step.output_values),
                    "error": step.error,
                }
                for step in run.steps
            ],
        }
    )


def manifest_bytes(run: Run, output_hash: str) -> bytes:
    """Return the bytes of a run's manifest."""
    ran = {step.workflow_step_id: step for step in run.steps}
    return _canonical(
        {
            "$schema": SCHEMA,
            "run_id": str(run.id),
            "completed_at": _moment(run.ended_at),
            "status": run.status,
            "workflow": {
                "slug": run.workflow.slug,
                "version": str(run.workflow.version),
                "steps": [_step(step, ran.get(step.id)) for step in run.workflow.steps],
            },
            "input_sha256": run.checksum or None,
            "output_envelope_sha256": output_hash or None,
        }
    )


def _step(step: WorkflowStep, ran: StepRun | None) -> dict[str, str | None]:
    return {
        "key": step.step_key,
        "status": ran.status if ran else NOT_RUN,
        "validator": step.validator,
        "validator_version": str(step.validator_version),
        "backend_image_digest": (ran.image_digest or None) if ran else None,
    }


def _moment(text: str) -> str | None:
    """Return a time in UTC; microseconds appear only if they are not zero."""
    value: str | None = json.loads(text)
    return None if value is None else datetime.fromisoformat(value).astimezone(UTC).isoformat()


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")
