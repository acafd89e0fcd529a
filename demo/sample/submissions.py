"""Submissions with their files, their runs, and the queue of purges."""

from hashlib import sha256

from demo.sample.cases import ACTIVE, Case, Story, tell
from demo.sample.chunk import Chunk
from demo.sample.documents import WEATHER, WEATHER_HASH, Documents
from demo.sample.drawing import DAY, HOUR
from demo.sample.organization import Workflow
from demo.sample.outputs import Origin
from demo.sample.runs import (
    LONGEST_RUN,
    LONGEST_WAIT,
    add_active_run,
    add_finished_run,
    begin_activity,
)
from maintenance.schema import input_files, purge_retries, submissions

FILE_EVERY = 3
PORT_FILE_EVERY = 10
SECOND_RUN_SHARE = 0.5
FAILED_PURGE_SHARE = 0.2
METADATA = '{"client": "validibot-cli", "source": "API"}'
PORT_METADATA = '{"station": "Harbour City"}'


def add_submission(
    chunk: Chunk, documents: Documents, workflow: Workflow, case: Case, place: int
) -> None:
    """Add the submission at a place in the sample, with all that belongs to it."""
    draw, at = chunk.draw, chunk.moments.at
    story = tell(case, chunk.spec, draw)
    chunk.tally[case] += 1
    submission_id = draw.identifier()
    document = documents.upload(submission_id)
    content = document.encode()
    checksum = sha256(content).hexdigest()
    user_id = draw.choose(workflow.user_ids)
    origin = Origin(
        submission_id, workflow, user_id, checksum, content, purged=story.purged is not None
    )
    created, run_id = _add_runs(chunk, origin, case, story)

    is_file = place % FILE_EVERY == 0
    path = ""
    if is_file and not origin.purged:
        path = f"submissions/{chunk.moments.month(created)}/{submission_id}.idf"
        chunk.file(f"private/{path}", content)
    purged = at(story.purged)
    chunk.add(
        submissions,
        created=at(created),
        modified=purged or at(created),
        id=submission_id,
        name="" if purged else f"Model {place}",
        content="" if purged else "" if is_file else document,
        input_file=path or (None if not purged and place % 2 else ""),
        file_type="TEXT",
        original_filename="" if purged else "model.idf",
        size_bytes=len(content),
        checksum_sha256=checksum,
        metadata="{}" if purged else METADATA,
        retention_policy=story.policy,
        expires_at=at(story.expires),
        content_purged_at=purged,
        latest_run_id=run_id,
        org_id=workflow.org_id,
        project_id=workflow.project_id,
        user_id=user_id,
        workflow_id=workflow.id,
    )
    if place % PORT_FILE_EVERY == 0:
        _add_port_file(chunk, origin, created, story.purged)
    if case is Case.QUEUED:
        _add_purge_retry(chunk, submission_id)


def _add_runs(chunk: Chunk, origin: Origin, case: Case, story: Story) -> tuple[int, str | None]:
    """Add the story's runs; return when the submission was created, and its latest run."""
    draw = chunk.draw
    before_run = LONGEST_RUN + LONGEST_WAIT + draw.between(1, HOUR)
    if story.ended is not None and story.runless:
        return story.ended, None
    run_id, created = None, 0
    if story.ended is not None:
        first = story.ended
        if draw.happens(SECOND_RUN_SHARE):
            first -= draw.between(LONGEST_RUN + HOUR, 2 * DAY)
            add_finished_run(chunk, origin, first)
        run_id = add_finished_run(chunk, origin, story.ended)
        created = first - before_run
    if case in ACTIVE:
        activity, started = begin_activity(chunk)
        run_id = add_active_run(chunk, origin, activity, started)
        created = min(created, started - before_run)
    return created, run_id


def _add_port_file(chunk: Chunk, origin: Origin, created: int, purged: int | None) -> None:
    """Add the weather file that goes to the port of a step; a purge leaves its row."""
    then, gone = chunk.moments.at(created), chunk.moments.at(purged)
    path = f"submission_inputs/{chunk.moments.month(created)}/{origin.submission_id}.epw"
    chunk.add_numbered(
        input_files,
        created=then,
        modified=gone or then,
        port_key="weather",
        input_file="" if gone else path,
        original_filename="" if gone else "harbour.epw",
        content_type="" if gone else "text/plain",
        size_bytes=len(WEATHER),
        checksum_sha256=WEATHER_HASH,
        file_purged_at=gone,
        metadata="{}" if gone else PORT_METADATA,
        submission_id=origin.submission_id,
        workflow_step_id=origin.workflow.steps[1].id,
    )
    if gone is None:
        chunk.tally["port_files_kept"] += 1
        chunk.file(f"private/{path}", WEATHER)


def _add_purge_retry(chunk: Chunk, submission_id: str) -> None:
    """Queue a purge: a new one that is due, or one that failed and waits for its next attempt."""
    draw, at = chunk.draw, chunk.moments.at
    if draw.happens(FAILED_PURGE_SHARE):
        chunk.tally["purge_retries_later"] += 1
        tried = -draw.between(1, HOUR // 2)
        chunk.add_numbered(
            purge_retries,
            created_at=at(-DAY),
            last_attempt_at=at(tried),
            next_retry_at=at(tried + HOUR),
            attempt_count=3,
            last_error="storage: connection refused",
            submission_id=submission_id,
        )
    else:
        chunk.tally["purge_retries_due"] += 1
        queued = at(-draw.between(0, HOUR))
        chunk.add_numbered(
            purge_retries,
            created_at=queued,
            next_retry_at=queued,
            attempt_count=0,
            submission_id=submission_id,
        )
