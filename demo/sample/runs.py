"""Runs: finished ones with everything they left, and active ones of several kinds."""

from enum import Enum, auto

from demo.sample.chunk import Chunk
from demo.sample.drawing import DAY, HOUR, MINUTE
from demo.sample.organization import Workflow
from demo.sample.outputs import (
    ARTIFACT_SHARE,
    OUTPUT_POLICIES,
    Origin,
    add_artifact,
    add_bundle,
    add_evidence,
    add_older_bundle,
    tell_outputs,
)
from demo.sample.steps import (
    FINDINGS,
    RunContext,
    StepTimes,
    add_attempt,
    add_findings,
    add_step_run,
    add_step_summary,
    counts_by_severity,
)
from maintenance.continuations import present_in
from maintenance.schema import run_summaries, runs
from maintenance.schema.vocabulary import (
    AttemptState,
    ContinuationState,
    ErrorCategory,
    RunStatus,
    StepStatus,
)

LONGEST_RUN = 20 * MINUTE
LONGEST_WAIT = 30
ATTEMPT_TIMEOUT = HOUR
RETRIED_SHARE = 0.05
LONG_RUNNING_SHARE = 0.2
WAITING_SHARE = 0.2
SHORT_DESCRIPTION = "Checked on upload"
SOURCE = "LAUNCH_PAGE"
EXTRAS = '{"zones": 12, "duration": "PT4M"}'

# As often as they are listed.
OUTCOMES = (
    *(RunStatus.SUCCEEDED,) * 15,
    *(RunStatus.FAILED,) * 3,
    RunStatus.CANCELED,
    RunStatus.TIMED_OUT,
)
FAILURES = {
    RunStatus.SUCCEEDED: ("", ""),
    RunStatus.FAILED: ("The document has errors.", ErrorCategory.VALIDATION_FAILED),
    RunStatus.CANCELED: ("", ""),
    RunStatus.TIMED_OUT: ("The validator did not answer in time.", ErrorCategory.TIMEOUT),
}
# How the last step of a run ends; those before it have passed.
STEP_RESULTS = {
    RunStatus.SUCCEEDED: (StepStatus.PASSED, AttemptState.COMPLETED),
    RunStatus.FAILED: (StepStatus.FAILED, AttemptState.COMPLETED),
    RunStatus.CANCELED: (StepStatus.SKIPPED, AttemptState.CANCELED),
    RunStatus.TIMED_OUT: (StepStatus.FAILED, AttemptState.TIMED_OUT),
}


class Activity(Enum):
    """What an active run is doing."""

    FRESH = auto()
    STUCK = auto()
    LONG_RUNNING = auto()
    """For weeks, shielded by the time-out of its attempt."""
    INTERRUPTED = auto()
    """Its first step is done, and Validibot has yet to start the next one."""
    WAITING = auto()


FIRST_STEP_DONE = {
    Activity.LONG_RUNNING: ContinuationState.COMPLETED,
    Activity.INTERRUPTED: ContinuationState.PENDING,
}


def add_finished_run(chunk: Chunk, origin: Origin, ended: int) -> str:
    """Add a run that ended then, and all it left."""
    draw, at = chunk.draw, chunk.moments.at
    workflow = origin.workflow
    outputs = tell_outputs(chunk, ended)
    kept = outputs.purged is None
    run = RunContext(draw.identifier(), workflow.org_id, not origin.purged, kept, active=False)
    started = ended - draw.between(10, LONGEST_RUN)
    status = draw.choose(OUTCOMES)
    error, category = FAILURES[status]
    output_hash = draw.hexadecimal(64)
    finish = at(ended)
    purged = at(outputs.purged)
    chunk.add(
        runs,
        created=at(started - draw.between(0, LONGEST_WAIT)),
        modified=purged or finish,
        id=run.run_id,
        status=status,
        short_description=SHORT_DESCRIPTION if run.inputs_kept else "",
        started_at=at(started),
        ended_at=finish,
        duration_ms=1000 * (ended - started),
        error=error if kept else "",
        error_category=category,
        source=SOURCE,
        output_retention_policy=outputs.policy,
        output_expires_at=at(outputs.expires),
        output_purged_at=purged,
        org_id=workflow.org_id,
        project_id=workflow.project_id,
        submission_id=origin.submission_id,
        user_id=origin.user_id,
        workflow_id=workflow.id,
        output_hash=output_hash if kept else "",
        definition_released_at=finish,
    )
    attempts, findings = _add_steps(chunk, run, workflow, status, (started, ended))
    errors, warnings, infos = (
        sum(counts) for counts in zip(*map(counts_by_severity, findings), strict=True)
    )
    chunk.add(
        run_summaries,
        created=finish,
        run_id=run.run_id,
        status=status,
        completed_at=finish,
        total_findings=errors + warnings + infos,
        error_count=errors,
        warning_count=warnings,
        info_count=infos,
        assertion_failure_count=errors,
        assertion_total_count=len(FINDINGS) * len(findings),
        extras=EXTRAS if kept else "{}",
    )
    add_evidence(chunk, run.run_id, origin, ended, (status, output_hash))
    if kept and draw.happens(chunk.spec.older_layout_share):
        add_older_bundle(chunk, run.run_id, origin)
    elif kept:
        add_bundle(chunk, run.run_id, origin, attempts)
    return run.run_id


def _add_steps(
    chunk: Chunk, run: RunContext, workflow: Workflow, status: RunStatus, span: tuple[int, int]
) -> tuple[list[str], list[int]]:
    """Add one or two steps over the run's span; return the attempts, and findings by step."""
    draw = chunk.draw
    steps = workflow.steps[: draw.between(1, 2)]
    began, ended = span
    length = (ended - began) // len(steps)
    attempts: list[str] = []
    findings: list[int] = []
    for place, step in enumerate(steps):
        last = place == len(steps) - 1
        times = StepTimes(began, began + length, began + ATTEMPT_TIMEOUT)
        began += length
        step_status, state = STEP_RESULTS[status] if last else STEP_RESULTS[RunStatus.SUCCEEDED]
        step_run = (add_step_run(chunk, run, step, step_status, times), step)
        retried = draw.happens(RETRIED_SHARE)
        if retried:
            attempts.append(add_attempt(chunk, run, step_run, AttemptState.FAILED, times))
        continued = None if last else ContinuationState.COMPLETED
        attempts.append(add_attempt(chunk, run, step_run, state, times, 1 + retried, continued))
        # Only a failed step has an error, which is the third kind.
        count = draw.between(0, 3 if step_status is StepStatus.FAILED else 2)
        findings.append(count)
        add_step_summary(chunk, run, step_run, step_status, began, count)
        if run.outputs_kept:
            add_findings(chunk, run, step_run[0], began, count)
            if last and draw.happens(ARTIFACT_SHARE):
                add_artifact(chunk, run, step, step_run[0], began)
    return attempts, findings


def add_active_run(chunk: Chunk, origin: Origin, activity: Activity, started: int) -> str:
    """Add a run that has not ended, whatever it is waiting for."""
    draw, at, workflow = chunk.draw, chunk.moments.at, origin.workflow
    chunk.tally["runs_active"] += 1
    run = RunContext(
        draw.identifier(), workflow.org_id, inputs_kept=True, outputs_kept=True, active=True
    )
    waiting = activity is Activity.WAITING
    begun = at(started)
    chunk.add(
        runs,
        created=begun,
        id=run.run_id,
        status=RunStatus.PENDING if waiting else RunStatus.RUNNING,
        short_description=SHORT_DESCRIPTION,
        started_at=None if waiting else begun,
        duration_ms=0,
        source=SOURCE,
        output_retention_policy=draw.choose(OUTPUT_POLICIES),
        org_id=workflow.org_id,
        project_id=workflow.project_id,
        submission_id=origin.submission_id,
        user_id=origin.user_id,
        workflow_id=workflow.id,
    )
    if waiting:
        return run.run_id
    step, *rest = workflow.steps
    if activity in FIRST_STEP_DONE:
        # Of a long-running run its receipt is old, and still protects the run.
        done = StepTimes(started, started + MINUTE, started + ATTEMPT_TIMEOUT)
        first = (add_step_run(chunk, run, step, StepStatus.PASSED, done), step)
        continued = FIRST_STEP_DONE[activity]
        completed = AttemptState.COMPLETED
        finished = [add_attempt(chunk, run, first, completed, done, continued=continued)]
        if activity is Activity.INTERRUPTED:
            chunk.tally["runs_interrupted"] += 1
            add_bundle(chunk, run.run_id, origin, finished, finished=False)
            return run.run_id
        step, times = rest[0], StepTimes(started + MINUTE, None, DAY)
    else:
        finished = []
        if activity is Activity.STUCK:
            chunk.tally["runs_stuck"] += 1
        # Half of the attempts that hang have no time-out of their own.
        unbounded = activity is Activity.STUCK and draw.happens(0.5)
        times = StepTimes(started, None, None if unbounded else started + ATTEMPT_TIMEOUT)
    current = (add_step_run(chunk, run, step, StepStatus.RUNNING, times), step)
    attempt = add_attempt(chunk, run, current, AttemptState.RUNNING, times)
    add_bundle(chunk, run.run_id, origin, [*finished, attempt], finished=False)
    return run.run_id


def begin_activity(chunk: Chunk) -> tuple[Activity, int]:
    """Draw what an active run is doing, and since when."""
    draw = chunk.draw
    if draw.happens(chunk.spec.stuck_share):
        return Activity.STUCK, -draw.between(ATTEMPT_TIMEOUT + MINUTE, 3 * HOUR)
    if present_in(chunk.version) and draw.happens(chunk.spec.interrupted_share):
        return Activity.INTERRUPTED, -draw.between(ATTEMPT_TIMEOUT + MINUTE, 3 * HOUR)
    if draw.happens(LONG_RUNNING_SHARE):
        return Activity.LONG_RUNNING, -draw.between(40 * DAY, 60 * DAY)
    if draw.happens(WAITING_SHARE):
        return Activity.WAITING, -draw.between(1, 10 * MINUTE)
    return Activity.FRESH, -draw.between(MINUTE, LONGEST_RUN)
