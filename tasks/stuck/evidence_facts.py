"""The facts that evidence manifests are made of, read for a whole batch (SPEC 6.4).

Three statements for any number of runs. The steps are read through a server-side cursor in the
order of their runs, so that only a few values are in memory at a time. Values and times are read
as text, so that one that Python cannot represent does not fail the statement.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Text,
    and_,
    cast,
    exists,
    func,
    literal,
    select,
)

from maintenance.evidence import Run, StepRun, Workflow, WorkflowStep
from maintenance.schema import (
    evidence,
    run_summaries,
    step_runs,
    submissions,
    validators,
    workflow_steps,
    workflows,
)
from maintenance.schema.vocabulary import EvidenceAvailability, RunStatus
from tasks.batching.arrays import any_bigint, any_uuid
from tasks.columns import RUNS

STEPS_AT_ONCE = 100
"""Rows that are fetched from the cursor at a time."""

COUNTS = ("error_count", "warning_count", "info_count", "total_findings")


def has_evidence(run_id: ColumnElement[UUID]) -> ColumnElement[bool]:
    """Return whether a run has evidence."""
    return exists(literal(1)).where(evidence.c.run_id == run_id, is_generated())


def is_generated() -> ColumnElement[bool]:
    """Return whether an evidence row names a manifest that was generated."""
    return and_(
        evidence.c.availability == EvidenceAvailability.GENERATED, evidence.c.manifest_path != ""
    )


def read_lacking(connection: Connection, ids: Sequence[UUID]) -> Iterator[Run]:
    """Yield the TIMED_OUT runs without evidence, with the facts that it is made of."""
    found = connection.execute(_runs(ids)).all()
    if not found:
        return
    flows = _workflows(connection, sorted({row.workflow_id for row in found}))
    by_id = {row.id: row for row in found}
    stream = connection.execute(_steps(list(by_id)), execution_options={"yield_per": STEPS_AT_ONCE})
    for run_id, group in groupby(stream, key=lambda row: row.validation_run_id):
        row = by_id.pop(run_id)
        yield _run(row, flows[row.workflow_id], [StepRun(*step[1:]) for step in group])
    for row in by_id.values():
        yield _run(row, flows[row.workflow_id], [])


def _runs(ids: Sequence[UUID]) -> Any:  # noqa: ANN401 - a SELECT of many columns
    counts = [func.coalesce(run_summaries.c[name], 0).label(name) for name in COUNTS]
    return (
        select(
            RUNS.id,
            RUNS.org_id,
            RUNS.user_id,
            RUNS.status,
            _json(RUNS.started_at, "started_at"),
            _json(RUNS.ended_at, "ended_at"),
            RUNS.duration_ms,
            RUNS.output_hash,
            RUNS.output_purged_at.is_(None).label("has_outputs"),
            RUNS.workflow_id,
            submissions.c.checksum_sha256.label("checksum"),
            submissions.c.name.label("submission_name"),
            workflows.c.slug,
            workflows.c.version,
            *counts,
        )
        .join(workflows, workflows.c.id == RUNS.workflow_id)
        .outerjoin(submissions, submissions.c.id == RUNS.submission_id)
        .outerjoin(run_summaries, run_summaries.c.run_id == RUNS.id)
        .where(RUNS.id == any_uuid(ids), RUNS.status == RunStatus.TIMED_OUT, ~has_evidence(RUNS.id))
    )


def _steps(ids: Sequence[UUID]) -> Any:  # noqa: ANN401 - a SELECT of many columns
    steps = step_runs.c
    return (
        select(
            steps.validation_run_id,
            steps.workflow_step_id,
            workflow_steps.c.step_key,
            steps.step_order,
            steps.status,
            cast(steps.input_values, Text),
            cast(steps.output_values, Text),
            steps.error,
            steps.validator_backend_image_digest,
        )
        .outerjoin(workflow_steps, workflow_steps.c.id == steps.workflow_step_id)
        .where(steps.validation_run_id == any_uuid(ids))
        .order_by(steps.validation_run_id, steps.step_order, steps.id)
    )


def _workflows(connection: Connection, ids: Sequence[int]) -> dict[int, list[WorkflowStep]]:
    """Return the steps of workflows that have a validator, in their order."""
    steps = workflow_steps.c
    found: dict[int, list[WorkflowStep]] = defaultdict(list)
    for workflow_id, *step in connection.execute(
        select(
            steps.workflow_id,
            steps.id,
            steps.step_key,
            validators.c.slug,
            validators.c.version,
        )
        .join(validators, validators.c.id == steps.validator_id)
        .where(steps.workflow_id == any_bigint(ids))
        .order_by(steps.workflow_id, steps.order, steps.id)
    ):
        found[workflow_id].append(WorkflowStep(*step))
    return found


def _run(row: Row[*tuple[Any, ...]], steps: Sequence[WorkflowStep], ran: Sequence[StepRun]) -> Run:
    return Run(
        id=row.id,
        org_id=row.org_id,
        user_id=row.user_id,
        status=row.status,
        started_at=row.started_at,
        ended_at=row.ended_at,
        duration_ms=row.duration_ms,
        output_hash=row.output_hash,
        has_outputs=row.has_outputs,
        checksum=row.checksum,
        submission_name=row.submission_name,
        counts={name: getattr(row, name) for name in COUNTS},
        workflow=Workflow(row.slug, row.version, steps),
        steps=ran,
    )


def _json(time: ColumnElement[Any], name: str) -> ColumnElement[str]:
    """Return a time as JSON text, whatever the session's DateStyle is."""
    return func.coalesce(cast(func.to_jsonb(time), Text), "null").label(name)
