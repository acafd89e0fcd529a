"""The steps of a run: step runs with their summaries, attempts, receipts, traces and findings."""

from dataclasses import dataclass

from demo.sample.chunk import Chunk
from demo.sample.documents import INPUT_ENVELOPE_HASH, OUTPUT_ENVELOPE_HASH
from demo.sample.drawing import DAY
from demo.sample.organization import Step
from maintenance.schema import (
    attempts,
    callback_receipts,
    continuations,
    findings,
    input_traces,
    step_run_summaries,
    step_runs,
)
from maintenance.schema.vocabulary import (
    AttemptState,
    CallbackReceiptStatus,
    ContinuationState,
    StepStatus,
)

RECEIPTS_KEPT = 30 * DAY
RUNNER = "docker"
STORED_AT = "file:///app/storage/private/"
IMAGE = "registry.example.org/validators/"
IMAGE_DIGEST = "sha256:" + "b" * 64
RETRY_POLICY = '{"max_attempts": 3, "backoff_seconds": 60}'
EVIDENCE_SNAPSHOT = '{"inputs": [{"port": "model", "format": "idf"}]}'
DEPLOYMENT = '{"runtime": "docker", "memory_mb": 2048}'
# A step run has the first few of them.
FINDINGS = (
    ("INFO", "report.size", "The report holds twelve tables", "/report"),
    ("WARNING", "schedule.gap", "The schedule has a gap in July", "/schedules/3"),
    ("ERROR", "zone.height", "The height of the zone is not plausible", "/zones/0/height"),
)


@dataclass(frozen=True, slots=True)
class RunContext:
    """What the steps of a run have in common."""

    run_id: str
    org_id: int
    inputs_kept: bool
    outputs_kept: bool
    active: bool


@dataclass(frozen=True, slots=True)
class StepTimes:
    """A step's span, in seconds relative to the moment of the sample."""

    started: int
    ended: int | None
    timeout: int | None


def add_step_run(
    chunk: Chunk, run: RunContext, step: Step, status: StepStatus, times: StepTimes
) -> int:
    """Add one step run with the trace of its resolved input."""
    number = chunk.number(step_runs)
    started = chunk.moments.at(times.started)
    ended = chunk.moments.at(times.ended)
    duration = 0 if times.ended is None else 1000 * (times.ended - times.started)
    inputs = f'{{"area": {number % 900}.5, "storeys": 3}}'
    readable = run.inputs_kept and run.outputs_kept
    finished = ended is not None and run.outputs_kept
    chunk.add(
        step_runs,
        id=number,
        created=started,
        modified=ended or started,
        step_order=step.order,
        status=status,
        started_at=started,
        ended_at=ended,
        duration_ms=duration,
        output='{"report": "report.html"}' if finished else "{}",
        validation_run_id=run.run_id,
        workflow_step_id=step.id,
        input_values=inputs if readable else "{}",
        output_values='{"eui": 99.5}' if finished else "{}",
        validator_backend_image_digest=IMAGE_DIGEST,
    )
    chunk.add_numbered(
        input_traces,
        created=started,
        input_contract_key="model.area",
        source_scope_used="SUBMISSION",
        source_data_path_used="zones.0.area",
        resolved=True,
        value_snapshot=inputs if readable else None,
        step_run_id=number,
    )
    return number


def add_attempt(
    chunk: Chunk,
    run: RunContext,
    step_run: tuple[int, Step],
    state: AttemptState,
    times: StepTimes,
    number: int = 1,
    continued: ContinuationState | None = None,
) -> str:
    """Add one attempt of a step run, with the receipts of its callback when it completed.

    `continued` is the state of the continuation that the callback made, if it made one.
    """
    step_run_id, step = step_run
    attempt_id = chunk.draw.identifier()
    started = chunk.moments.at(times.started)
    ended = chunk.moments.at(times.ended)
    completed = state is AttemptState.COMPLETED
    readable = run.inputs_kept and run.outputs_kept
    bundle = f"{STORED_AT}runs/{run.org_id}/{run.run_id}/attempts/{attempt_id}"
    code = "" if completed or ended is None else f"attempt_{state.lower()}"
    error = "The validator ended without a result." if code and run.outputs_kept else ""
    answered = completed and run.outputs_kept
    chunk.add(
        attempts,
        created=started,
        modified=ended or started,
        id=attempt_id,
        attempt_number=number,
        state=state,
        runner_type=RUNNER,
        provider_execution_id=chunk.draw.hexadecimal(64),
        callback_nonce_hash=chunk.draw.hexadecimal(64),
        execution_bundle_uri=bundle if readable else "",
        input_envelope_uri=f"{bundle}/input/input.json" if readable else "",
        input_envelope_sha256=INPUT_ENVELOPE_HASH if run.inputs_kept else "",
        output_envelope_uri=f"{bundle}/output/output.json" if answered else "",
        output_envelope_sha256=OUTPUT_ENVELOPE_HASH if answered else "",
        backend_image_ref=f"{IMAGE}{step.validator}",
        backend_image_digest=IMAGE_DIGEST,
        timeout_at=chunk.moments.at(times.timeout),
        retry_policy_snapshot=RETRY_POLICY,
        dispatch_started_at=started,
        provider_started_at=started,
        provider_finished_at=ended,
        terminal_at=ended,
        provider_status_code="0" if completed else "",
        last_error_code=code,
        last_error=error,
        step_run_id=step_run_id,
        input_evidence_snapshot=EVIDENCE_SNAPSHOT if run.inputs_kept else "{}",
        deployment_snapshot=DEPLOYMENT,
        provider_accepted_at=started,
        callback_received_at=ended if completed else None,
    )
    if completed and times.ended is not None:
        receipt_id = _add_receipts(chunk, run, attempt_id, times.ended)
        if continued is not None:
            _add_continuation(chunk, run, step_run, receipt_id, (times.ended, continued))
    return attempt_id


def _add_receipts(chunk: Chunk, run: RunContext, attempt_id: str, received: int) -> str | None:
    """Add the receipts of a callback and its repeats; return the first one, if any."""
    count = chunk.spec.receipts_per_attempt
    if received >= -RECEIPTS_KEPT:
        chunk.tally["receipts_recent"] += count
    elif run.active:
        chunk.tally["receipts_old_active"] += count
    else:
        chunk.tally["receipts_old_terminal"] += count
    then = chunk.moments.at(received)
    uri = f"{STORED_AT}runs/{run.org_id}/{run.run_id}/output.json" if run.outputs_kept else ""
    identifiers = [chunk.draw.identifier() for _ in range(count)]
    for place, identifier in enumerate(identifiers):
        status = CallbackReceiptStatus.REJECTED if place else CallbackReceiptStatus.COMPLETED
        chunk.add(
            callback_receipts,
            id=identifier,
            callback_id=f"{attempt_id}-{place}",
            received_at=then,
            status=status,
            result_uri=uri,
            validation_run_id=run.run_id,
            execution_attempt_id=attempt_id,
            delivery_count=1,
        )
    return identifiers[0] if identifiers else None


def _add_continuation(
    chunk: Chunk,
    run: RunContext,
    step_run: tuple[int, Step],
    receipt_id: str | None,
    since: tuple[int, ContinuationState],
) -> None:
    """Add the continuation of a run after a step; one that is not completed waits for dispatch."""
    step_run_id, step = step_run
    made, state = since
    completed = state is ContinuationState.COMPLETED
    then = chunk.moments.at(made)
    chunk.add(
        continuations,
        created=then,
        id=chunk.draw.identifier(),
        resume_from_step=step.order,
        state=state,
        dispatch_attempts=1,
        transport_task_id=chunk.draw.identifier() if completed else "",
        dispatched_at=then if completed else None,
        execution_attempts=int(completed),
        completed_at=then if completed else None,
        last_error_code="" if completed else "transport_dispatch_failed",
        last_error="" if completed else "The broker does not answer.",
        callback_receipt_id=receipt_id,
        completed_step_run_id=step_run_id,
        validation_run_id=run.run_id,
    )


def add_findings(chunk: Chunk, run: RunContext, step_run_id: int, ended: int, count: int) -> None:
    """Add so many findings of a step run, the mildest first."""
    then = chunk.moments.at(ended)
    for severity, code, message, path in FINDINGS[:count]:
        chunk.add_numbered(
            findings,
            created=then,
            severity=severity,
            code=code,
            message=message,
            path=path,
            meta='{"rule": "plausibility"}',
            validation_run_id=run.run_id,
            validation_step_run_id=step_run_id,
        )


def counts_by_severity(count: int) -> tuple[int, int, int]:
    """Split so many findings of a step run into errors, warnings and informations."""
    infos, warnings, errors = (int(place < count) for place in range(len(FINDINGS)))
    return errors, warnings, infos


def add_step_summary(
    chunk: Chunk, run: RunContext, step_run: tuple[int, Step], status: str, ended: int, count: int
) -> None:
    """Add the step run's part of the run summary; it keeps its counts when findings go."""
    step_run_id, step = step_run
    errors, warnings, infos = counts_by_severity(count)
    then = chunk.moments.at(ended)
    chunk.add_numbered(
        step_run_summaries,
        created=then,
        step_name=step.name,
        step_order=step.order,
        status=status,
        error_count=errors,
        warning_count=warnings,
        info_count=infos,
        step_run_id=step_run_id,
        summary_id=run.run_id,
    )
