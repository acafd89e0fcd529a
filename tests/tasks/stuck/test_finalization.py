"""Finalization of runs that timed out: evidence, deadlines, queued purges, released definitions."""

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from maintenance import schema
from maintenance.evidence import SCHEMA
from maintenance.settings import Settings
from maintenance.storage.layout import Stores, open_stores
from tasks.stuck.finalization import finalize
from tests.maintenance.test_evidence import (
    CHECKSUM,
    CONTENT,
    DIGEST,
    MANIFEST_HASH,
    OUTPUT_HASH,
    RUN,
    canonical,
)
from tests.support.timed_out import (
    NEVER_FINISHED,
    evidence_of,
    manifest_key,
    manifests,
    outcome,
    timed_out_run,
)
from tests.support.validibot import BEFORE, DAY, NOW, Validibot


@pytest.fixture
def stores(environment: Settings, database: Engine) -> Iterator[Stores]:
    with open_stores(environment, database) as opened:
        yield opened


def test_the_worked_example_is_reproduced_through_the_database(
    validibot: Validibot, stores: Stores
) -> None:
    workflow = validibot.insert(
        schema.workflows,
        org_id=validibot.org_id,
        user_id=validibot.user_id,
        slug="oracle-wf",
        version=1,
    ).id
    validators = {
        slug: validibot.insert(schema.validators, slug=slug, version=version).id
        for slug, version in (("oracle-json", 1), ("oracle-energyplus", 3))
    }
    plan = (
        (30, "post_check", "oracle-json"),
        (15, "manual", None),
        (20, "simulation", "oracle-energyplus"),
        (10, "schema_check", "oracle-json"),
    )
    steps = {
        name: validibot.insert(
            schema.workflow_steps,
            workflow_id=workflow,
            order=order,
            step_key=name,
            validator_id=slug and validators[slug],
        ).id
        for order, name, slug in plan
    }
    submission = validibot.submission(
        checksum_sha256=CHECKSUM, name="name stk-null-start-bounded", workflow_id=workflow
    )
    run_id = timed_out_run(
        validibot,
        submission,
        id=RUN,
        ended_at=NOW,
        workflow_id=workflow,
        user_id=validibot.user_id,
        steps=(),
    )
    validibot.step_run(
        run_id,
        workflow_step_id=steps["simulation"],
        step_order=20,
        status="RUNNING",
        input_values={"who": "alice", "area": 12.5},
        validator_backend_image_digest=DIGEST,
    )
    assert validibot.org_id == validibot.user_id == 1, "as in the example"
    before = validibot.row(schema.runs, run_id)
    assert outcome(finalize(validibot.engine, stores, [run_id])) == (1, 1, 0, 0, 0)
    row = evidence_of(validibot, run_id)
    assert (validibot.root / "private" / row["manifest_path"]).read_text() == CONTENT
    assert row["manifest_path"] == f"evidence/1/{RUN}/manifest.json"
    assert row["manifest_hash"] == MANIFEST_HASH
    assert (row["schema_version"], row["availability"], row["generation_error"]) == (
        SCHEMA,
        "GENERATED",
        "",
    )
    assert row["created"] == row["modified"]
    after = validibot.row(schema.runs, run_id)
    changed = {name for name, value in after.items() if before[name] != value}
    assert changed == {"output_hash", "definition_released_at"}
    assert after["output_hash"] == OUTPUT_HASH


def test_each_run_gets_its_own_facts(validibot: Validibot, stores: Stores) -> None:
    submission = validibot.submission()
    runs = [timed_out_run(validibot, submission, steps=steps) for steps in ((), (0,), (2, 1, 0))]
    validibot.insert(schema.run_summaries, run_id=runs[1], total_findings=7, error_count=3)
    result = finalize(validibot.engine, stores, runs)
    assert outcome(result) == (3, 3, 0, 0, 0)
    statuses = []
    for run_id in runs:
        row = evidence_of(validibot, run_id)
        content = (validibot.root / "private" / row["manifest_path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["manifest_hash"]
        document = json.loads(content)
        assert document["run_id"] == str(run_id)
        assert (
            document["output_envelope_sha256"] == validibot.row(schema.runs, run_id)["output_hash"]
        )
        statuses.append([step["status"] for step in document["workflow"]["steps"]])
    assert statuses == [["NOT_RUN"] * 3, ["s0", "NOT_RUN", "NOT_RUN"], ["s0", "s1", "s2"]]
    for run_id, places in zip(runs, ((), (0,), (0, 1, 2)), strict=True):
        found = validibot.rows(schema.run_summaries).get(run_id, {})
        row, content = (
            validibot.row(schema.runs, run_id),
            validibot.row(schema.submissions, submission),
        )
        hashed = canonical(
            {
                "run_id": str(run_id),
                "content_hash": content["checksum_sha256"],
                "user_id": None,
                "submission_name": content["name"],
                "status": "TIMED_OUT",
                "started_at": None,
                "ended_at": (NOW - DAY).isoformat(),
                "duration_ms": 0,
                "error_count": found.get("error_count", 0),
                "warning_count": 0,
                "info_count": 0,
                "total_findings": found.get("total_findings", 0),
                "steps": [
                    {
                        "step_key": f"step_{place + 1}",
                        "step_order": 10 * place,
                        "status": f"s{place}",
                        "input_values": {"area": 12.5},
                        "output_values": {"eui": 99.5},
                        "error": "",
                    }
                    for place in places
                ],
            }
        )
        assert row["output_hash"] == hashlib.sha256(hashed.encode()).hexdigest()


def test_deadlines_are_computed_and_do_not_store_content_is_queued(
    validibot: Validibot, stores: Stores
) -> None:
    policies = {
        "DO_NOT_STORE": (NOW, None),
        "STORE_1_DAY": (NOW + DAY, NOW + DAY),
        "STORE_PERMANENTLY": (None, None),
        "NEW_POLICY": (NOW, None),
    }
    submissions, runs = {}, {}
    for policy in policies:
        submissions[policy] = validibot.submission(
            retention_policy=policy, expires_at=NOW + 99 * DAY
        )
        runs[policy] = timed_out_run(
            validibot,
            submissions[policy],
            ended_at=NOW,
            output_retention_policy=policy,
            output_expires_at=NOW + 99 * DAY,
        )
    busy = validibot.submission(retention_policy="DO_NOT_STORE", expires_at=None)
    validibot.run(busy, status="RUNNING")
    result = finalize(
        validibot.engine, stores, [*runs.values(), timed_out_run(validibot, busy, ended_at=NOW)]
    )
    assert outcome(result) == (5, 5, 0, 0, 0)
    for policy, (output, content) in policies.items():
        assert validibot.row(schema.runs, runs[policy])["output_expires_at"] == output, policy
        assert validibot.row(schema.submissions, submissions[policy])["expires_at"] == content, (
            policy
        )
    assert (
        validibot.row(schema.runs, runs["NEW_POLICY"])["output_retention_policy"] == "DO_NOT_STORE"
    )
    queued = {row["submission_id"] for row in validibot.rows(schema.purge_retries).values()}
    assert queued == {submissions["DO_NOT_STORE"], submissions["NEW_POLICY"]}
    assert result.repaired == {"purges queued": 2}
    assert result.unknown_policies == {"NEW_POLICY": 2}, "a run's and a submission's"


def test_modified_stays_and_a_second_call_changes_nothing(
    validibot: Validibot, stores: Stores
) -> None:
    submission = validibot.submission(retention_policy="DO_NOT_STORE", expires_at=NOW)
    run_id = timed_out_run(validibot, submission)
    stamps = [validibot.row(schema.runs, run_id)["modified"]]
    finalize(validibot.engine, stores, [run_id, run_id])
    stamps.append(validibot.row(schema.runs, run_id)["modified"])
    assert stamps[0] == stamps[1]
    assert validibot.row(schema.submissions, submission)["modified"] == NOW - 8 * DAY
    snapshot = validibot.snapshot()
    again = finalize(validibot.engine, stores, [run_id])
    assert outcome(again) == (1, 1, 0, 0, 0)
    assert +again.rows_by_table == {}
    assert validibot.snapshot() == snapshot


def test_evidence_that_is_there_stays_and_the_rest_is_done(
    validibot: Validibot, stores: Stores
) -> None:
    run_id = timed_out_run(validibot, None, output_retention_policy="STORE_1_DAY", ended_at=NOW)
    validibot.insert(
        schema.evidence, run_id=run_id, availability="GENERATED", manifest_path="elsewhere.json"
    )
    before = evidence_of(validibot, run_id)
    assert outcome(finalize(validibot.engine, stores, [run_id])) == (1, 1, 0, 0, 0)
    row = validibot.row(schema.runs, run_id)
    assert evidence_of(validibot, run_id) == before
    assert row["output_expires_at"] == NOW + DAY
    assert row["definition_released_at"] is not None
    assert row["output_hash"] == "", "it is made with the evidence"
    assert manifests(validibot) == set()


@pytest.mark.parametrize(
    "row",
    [
        {"availability": "FAILED", "generation_error": "disk full"},
        {"availability": "GENERATED", "manifest_path": ""},
        {"availability": "PENDING", "manifest_path": "x.json"},
    ],
)
def test_evidence_that_failed_or_says_not_where_is_made_in_the_same_row(
    validibot: Validibot, stores: Stores, row: dict[str, str]
) -> None:
    run_id = timed_out_run(validibot, None, definition_released_at=BEFORE)
    identifier = validibot.insert(schema.evidence, run_id=run_id, **row).id
    assert outcome(finalize(validibot.engine, stores, [run_id])) == (1, 1, 0, 0, 0)
    made = evidence_of(validibot, run_id)
    assert (made["id"], made["created"]) == (identifier, BEFORE)
    assert made["modified"] > BEFORE
    assert (made["availability"], made["generation_error"]) == ("GENERATED", "")
    assert made["manifest_path"] == manifest_key(validibot, run_id)
    assert validibot.row(schema.runs, run_id)["definition_released_at"] == BEFORE


def test_a_hash_that_is_there_is_kept(validibot: Validibot, stores: Stores) -> None:
    run_id = timed_out_run(validibot, None, output_hash=64 * "c")
    finalize(validibot.engine, stores, [run_id])
    assert validibot.row(schema.runs, run_id)["output_hash"] == 64 * "c"
    content = json.loads((validibot.root / "private" / manifest_key(validibot, run_id)).read_text())
    assert content["output_envelope_sha256"] == 64 * "c"


def test_of_a_run_whose_outputs_are_purged_only_evidence_and_release_are_made(
    validibot: Validibot, stores: Stores
) -> None:
    run_id = timed_out_run(
        validibot,
        None,
        error="",
        output_purged_at=NOW,
        output_retention_policy="STORE_1_DAY",
        ended_at=NOW - DAY,
    )
    before = validibot.row(schema.runs, run_id)
    assert outcome(finalize(validibot.engine, stores, [run_id])) == (1, 1, 0, 0, 0)
    after = validibot.row(schema.runs, run_id)
    assert {name for name, value in after.items() if before[name] != value} == {
        "definition_released_at"
    }
    content = json.loads((validibot.root / "private" / manifest_key(validibot, run_id)).read_text())
    assert content["output_envelope_sha256"] is None


def test_runs_that_are_not_timed_out_are_skipped(validibot: Validibot, stores: Stores) -> None:
    others = [validibot.run(None, status=status) for status in ("RUNNING", "SUCCEEDED", "FAILED")]
    snapshot = validibot.snapshot()
    assert outcome(finalize(validibot.engine, stores, others)) == (3, 0, 0, 0, 3)
    assert outcome(finalize(validibot.engine, stores, [])) == (0, 0, 0, 0, 0)
    assert validibot.snapshot() == snapshot


def test_a_locked_run_is_deferred_and_the_others_are_done(
    validibot: Validibot, stores: Stores, database: Engine
) -> None:
    held, free = timed_out_run(validibot, None), timed_out_run(validibot, None)
    with database.begin() as other:
        other.execute(schema.runs.select().where(schema.runs.c.id == held).with_for_update())
        assert outcome(finalize(validibot.engine, stores, [held, free])) == (2, 1, 0, 1, 0)
    assert {row["run_id"] for row in validibot.rows(schema.evidence).values()} == {free}
    files = manifests(validibot)
    assert outcome(finalize(validibot.engine, stores, [held])) == (1, 1, 0, 0, 0)
    assert manifests(validibot) == files, "the file of the first time is used"


def test_a_taken_name_is_kept_and_the_next_attempt_finds_its_own_file_again(
    validibot: Validibot, stores: Stores
) -> None:
    run_id = timed_out_run(validibot, None)
    theirs = validibot.file(manifest_key(validibot, run_id), "theirs")
    assert outcome(finalize(validibot.engine, stores, [run_id])) == (1, 1, 0, 0, 0)
    path = evidence_of(validibot, run_id)["manifest_path"]
    assert path != manifest_key(validibot, run_id)
    assert theirs.read_text() == "theirs"
    files = manifests(validibot)
    with validibot.engine.begin() as connection:
        connection.execute(schema.evidence.delete())
        connection.execute(schema.runs.update().values(NEVER_FINISHED))
    assert outcome(finalize(validibot.engine, stores, [run_id])) == (1, 1, 0, 0, 0)
    assert evidence_of(validibot, run_id)["manifest_path"] == path
    assert manifests(validibot) == files


def test_evidence_that_the_application_writes_meanwhile_wins(
    validibot: Validibot, stores: Stores
) -> None:
    run_id = timed_out_run(validibot, None)

    class Slow:
        def save_files(self, files: Any) -> Any:
            saved = stores.private.save_files(files)
            validibot.insert(
                schema.evidence, run_id=run_id, availability="GENERATED", manifest_path="theirs"
            )
            return saved

    beside: Any = Slow()
    result = finalize(validibot.engine, Stores(beside, ()), [run_id])
    assert outcome(result) == (1, 1, 0, 0, 0)
    assert evidence_of(validibot, run_id)["manifest_path"] == "theirs"
    assert timedelta(0) < validibot.row(schema.runs, run_id)["definition_released_at"] - BEFORE
