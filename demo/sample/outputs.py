"""What a run leaves: its output deadline, artifacts, evidence, and the files of its bundle."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from demo.sample.chunk import Chunk
from demo.sample.documents import INPUT_ENVELOPE, OUTPUT_ENVELOPE, REPORT, REPORT_HASH
from demo.sample.drawing import DAY, HOUR
from demo.sample.organization import Step, Workflow
from demo.sample.steps import RunContext
from maintenance.schema import artifacts, evidence
from maintenance.schema.vocabulary import EvidenceAvailability, OutputRetention

MANIFEST_SCHEMA = "https://validibot.com/schemas/evidence-manifest-v2.json"
OUTPUT_DAYS = {
    OutputRetention.STORE_1_DAY: 1,
    OutputRetention.STORE_7_DAYS: 7,
    OutputRetention.STORE_30_DAYS: 30,
    OutputRetention.STORE_90_DAYS: 90,
    OutputRetention.STORE_1_YEAR: 365,
}
# As often as they are listed: a month is the usual choice.
OUTPUT_POLICIES = (*OutputRetention, OutputRetention.STORE_30_DAYS, OutputRetention.STORE_30_DAYS)
ARTIFACT_SHARE = 0.5


class OutputCase(StrEnum):
    """A finished run's situation; the value is the summary's field that counts it."""

    DUE = "outputs_due"
    LIVE = "outputs_live"
    PERMANENT = "outputs_permanent"
    PURGED = "outputs_purged"
    UNSTAMPED_DUE = "outputs_unstamped_due"
    UNSTAMPED_LATER = "outputs_unstamped_later"


@dataclass(frozen=True, slots=True)
class OutputStory:
    """What became of a finished run's outputs."""

    policy: OutputRetention
    expires: int | None
    purged: int | None


@dataclass(frozen=True, slots=True)
class Origin:
    """The submission that a run checks, as far as the run repeats it."""

    submission_id: str
    workflow: Workflow
    user_id: int
    checksum: str
    content: bytes
    purged: bool


def tell_outputs(chunk: Chunk, ended: int) -> OutputStory:
    """Draw what became of the outputs of a run that ended then."""
    draw, spec = chunk.draw, chunk.spec
    policy = draw.choose(OUTPUT_POLICIES)
    if policy is OutputRetention.STORE_PERMANENTLY:
        chunk.tally[OutputCase.PERMANENT] += 1
        return OutputStory(policy, None, None)
    days = OUTPUT_DAYS.get(policy)
    expires = ended if days is None else ended + days * DAY
    due = expires <= 0
    if days is not None and draw.happens(spec.odd_share):
        chunk.tally[OutputCase.UNSTAMPED_DUE if due else OutputCase.UNSTAMPED_LATER] += 1
        return OutputStory(policy, None, None)
    if due and draw.happens(spec.outputs_purged_share):
        chunk.tally[OutputCase.PURGED] += 1
        return OutputStory(policy, None, min(0, expires + HOUR))
    chunk.tally[OutputCase.DUE if due else OutputCase.LIVE] += 1
    return OutputStory(policy, expires, None)


def add_artifact(chunk: Chunk, run: RunContext, step: Step, step_run_id: int, ended: int) -> None:
    """Add the report that a step run left."""
    then = chunk.moments.at(ended)
    path = f"artifacts/{chunk.moments.month(ended)}/{run.run_id}/{step.key}.html"
    chunk.add_numbered(
        artifacts,
        created=then,
        label="Report",
        content_type="text/html",
        file=path,
        size_bytes=len(REPORT),
        org_id=run.org_id,
        validation_run_id=run.run_id,
        contract_key="report",
        data_format="html",
        kind="FILE",
        producer_validator_type=step.validator_type,
        producer_validator_version=str(step.validator_version),
        retention_class="OUTPUT",
        role="report",
        sha256=REPORT_HASH,
        step_run_id=step_run_id,
        workflow_step_id=step.id,
    )
    chunk.file(f"private/{path}", REPORT)


def add_evidence(
    chunk: Chunk, run_id: str, origin: Origin, ended: int, result: tuple[str, str]
) -> None:
    """Add the receipt of a finished run, given its status and output hash; it outlives purges."""
    workflow = origin.workflow
    status, output_hash = result
    then = chunk.moments.at(ended)
    path = f"evidence/{workflow.org_id}/{run_id}/manifest.json"
    manifest = (
        f'{{"$schema":"{MANIFEST_SCHEMA}","completed_at":"{then.replace(" ", "T")}",'
        f'"input_sha256":"{origin.checksum}","output_envelope_sha256":"{output_hash}",'
        f'"run_id":"{run_id}","status":"{status}","workflow":{{"slug":"{workflow.slug}",'
        f'"steps":[],"version":"{workflow.version}"}}}}'
    ).encode()
    chunk.add(
        evidence,
        created=then,
        id=chunk.draw.identifier(),
        schema_version=MANIFEST_SCHEMA,
        manifest_path=path,
        manifest_hash=sha256(manifest).hexdigest(),
        availability=EvidenceAvailability.GENERATED,
        run_id=run_id,
    )
    chunk.file(f"private/{path}", manifest)


def add_bundle(
    chunk: Chunk, run_id: str, origin: Origin, attempts: Sequence[str], *, finished: bool = True
) -> None:
    """Add the files of a run in the layout of the container workers.

    Without the copied inputs when the submission is purged, without outputs while it runs.
    """
    if not chunk.spec.with_files:
        return
    bundle = f"private/runs/{origin.workflow.org_id}/{run_id}"
    for attempt in attempts:
        folder = f"{bundle}/attempts/{attempt}"
        if not origin.purged:
            chunk.file(f"{folder}/input/input.json", INPUT_ENVELOPE)
            chunk.file(f"{folder}/input/model.idf", origin.content)
        if finished:
            chunk.file(f"{folder}/output/report.html", REPORT)
    if finished:
        chunk.file(f"{bundle}/output.json", OUTPUT_ENVELOPE)


def add_older_bundle(chunk: Chunk, run_id: str, origin: Origin) -> None:
    """Add the files of a finished run in the older layout."""
    bundle = f"public/files/runs/{origin.workflow.org_id}/{run_id}"
    if not origin.purged:
        chunk.file(f"{bundle}/input.json", INPUT_ENVELOPE)
        chunk.file(f"{bundle}/model.idf", origin.content)
    chunk.file(f"{bundle}/output.json", OUTPUT_ENVELOPE)
    chunk.file(f"{bundle}/outputs/report.html", REPORT)
