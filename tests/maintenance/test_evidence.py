"""The formats of evidence: the worked example byte for byte, and the rules in general."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maintenance.evidence import Run, StepRun, Workflow, WorkflowStep, hashed_bytes, manifest

RUN = UUID("3eaf70f2-de2d-5172-b343-5444b1483e44")
CHECKSUM = "e70239f2ebba4b34b5f7730269059fb29afbede4885f910e8c2826bcced7435c"
DIGEST = "sha256:" + 64 * "b"

HASHED = (
    '{"content_hash":"e70239f2ebba4b34b5f7730269059fb29afbede4885f910e8c2826bcced7435c",'
    '"duration_ms":0,"ended_at":"2026-11-15T12:00:00+00:00","error_count":0,"info_count":0,'
    '"run_id":"3eaf70f2-de2d-5172-b343-5444b1483e44","started_at":null,"status":"TIMED_OUT",'
    '"steps":[{"error":"","input_values":{"area":12.5,"who":"alice"},"output_values":{"eui":99.5},'
    '"status":"RUNNING","step_key":"simulation","step_order":20}],'
    '"submission_name":"name stk-null-start-bounded","total_findings":0,"user_id":1,'
    '"warning_count":0}'
)
OUTPUT_HASH = "994f259b7615a6ed2a1de70d273319a5e7b78ee00f873c3f0d0944e1188e749d"
CONTENT = (
    '{"$schema":"https://validibot.com/schemas/evidence-manifest-v2.json",'
    '"completed_at":"2026-11-15T12:00:00+00:00",'
    '"input_sha256":"e70239f2ebba4b34b5f7730269059fb29afbede4885f910e8c2826bcced7435c",'
    '"output_envelope_sha256":"994f259b7615a6ed2a1de70d273319a5e7b78ee00f873c3f0d0944e1188e749d",'
    '"run_id":"3eaf70f2-de2d-5172-b343-5444b1483e44","status":"TIMED_OUT",'
    '"workflow":{"slug":"oracle-wf","steps":['
    '{"backend_image_digest":null,"key":"schema_check","status":"NOT_RUN",'
    '"validator":"oracle-json","validator_version":"1"},'
    '{"backend_image_digest":'
    '"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",'
    '"key":"simulation","status":"RUNNING","validator":"oracle-energyplus","validator_version":"3"},'
    '{"backend_image_digest":null,"key":"post_check","status":"NOT_RUN",'
    '"validator":"oracle-json","validator_version":"1"}],"version":"1"}}'
)
MANIFEST_HASH = "a4f7787ea158a97d21e2316eb57f4d176ee270d6a612b0250d3488b508279bc0"


def example(**changes: Any) -> Run:
    steps = [
        WorkflowStep(1, "schema_check", "oracle-json", 1),
        WorkflowStep(2, "simulation", "oracle-energyplus", 3),
        WorkflowStep(3, "post_check", "oracle-json", 1),
    ]
    values = '{"who": "alice", "area": 12.5}'
    ran = StepRun(2, "simulation", 20, "RUNNING", values, '{"eui": 99.5}', "", DIGEST)
    facts: dict[str, Any] = {
        "id": RUN,
        "org_id": 1,
        "user_id": 1,
        "status": "TIMED_OUT",
        "started_at": "null",
        "ended_at": '"2026-11-15T12:00:00+00:00"',
        "duration_ms": 0,
        "output_hash": "",
        "has_outputs": True,
        "checksum": CHECKSUM,
        "submission_name": "name stk-null-start-bounded",
        "counts": dict.fromkeys(
            ("error_count", "warning_count", "info_count", "total_findings"), 0
        ),
        "workflow": Workflow("oracle-wf", 1, steps),
        "steps": [ran],
    }
    return Run(**{**facts, **changes})


def test_the_worked_example_comes_out_byte_for_byte() -> None:
    made = manifest(example())
    assert hashed_bytes(example()).decode() == HASHED
    assert made.output_hash == OUTPUT_HASH
    assert made.content.decode() == CONTENT
    assert made.sha256 == MANIFEST_HASH
    assert made.key == f"evidence/1/{RUN}/manifest.json"


def test_a_hash_that_is_there_is_not_made_again() -> None:
    given_hash = 64 * "c"
    made = manifest(example(output_hash=given_hash))
    assert made.output_hash == given_hash
    assert json.loads(made.content)["output_envelope_sha256"] == given_hash


def test_no_hash_is_made_of_values_that_were_purged() -> None:
    made = manifest(example(has_outputs=False))
    assert made.output_hash == ""
    assert json.loads(made.content)["output_envelope_sha256"] is None


def test_what_is_absent_is_null_in_the_manifest_and_blank_in_the_hashed_bytes() -> None:
    run = example(checksum=None, submission_name=None, user_id=None, ended_at="null")
    hashed = json.loads(hashed_bytes(run))
    assert (hashed["content_hash"], hashed["submission_name"], hashed["user_id"]) == (
        "",
        None,
        None,
    )
    content = json.loads(manifest(run).content)
    assert content["input_sha256"] is None
    assert content["completed_at"] is None


@pytest.mark.parametrize(
    ("stored", "written"),
    [
        ("12.50", "12.5"),
        ("1.0", "1.0"),
        ("100", "100"),
        (str(10**400), str(10**400)),
        ("0.1000000000000000055511151231257827", "0.1"),
        ("123456789012345678901234567890.5", "1.2345678901234568e+29"),
        ("0.00000001", "1e-08"),
        ('"\\u00e9 \U0001f600"', '"\\u00e9 \\ud83d\\ude00"'),
        ('"a\\tb/\\u007f"', '"a\\tb/\\u007f"'),
        ('{"b": [], "a": {}}', '{"a":{},"b":[]}'),
        ("null", "null"),
        (f"{9 * '1' + 400 * '0'}.5", "Infinity"),
    ],
)
def test_values_are_written_as_python_writes_what_it_reads(stored: str, written: str) -> None:
    step = StepRun(2, "simulation", 20, "RUNNING", stored, "{}", "", "")
    assert f'"input_values":{written},' in hashed_bytes(example(steps=[step])).decode()


@pytest.mark.parametrize(
    ("stored", "written"),
    [
        ("2026-11-15T12:00:00+00:00", "2026-11-15T12:00:00+00:00"),
        ("2026-11-15T12:00:00.5+00:00", "2026-11-15T12:00:00.500000+00:00"),
        ("2026-11-15T12:00:00.000001+00:00", "2026-11-15T12:00:00.000001+00:00"),
        ("2026-11-15T14:00:00+02:00", "2026-11-15T12:00:00+00:00"),
    ],
)
def test_times_are_in_utc_with_microseconds_when_there_are_any(stored: str, written: str) -> None:
    run = example(started_at=f'"{stored}"')
    assert json.loads(hashed_bytes(run))["started_at"] == written


@pytest.mark.parametrize(
    "changes",
    [
        {"started_at": '"infinity"'},
        {"ended_at": '"-infinity"'},
        {"started_at": '"0044-03-15T12:00:00+00:00 BC"'},
        {"steps": [StepRun(2, "s", 20, "RUNNING", "9" * 5_000, "{}", "", "")]},
        {"steps": [StepRun(2, "s", 20, "RUNNING", "[" * 9_999 + "]" * 9_999, "{}", "", "")]},
    ],
)
def test_what_python_cannot_read_is_an_error_of_its_run(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, RecursionError)):
        manifest(example(**changes))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])
MOMENTS = st.none() | st.datetimes(
    datetime(1990, 1, 1),  # noqa: DTZ001 - the zone is drawn, too
    datetime(2090, 1, 1),  # noqa: DTZ001
    timezones=ZONES,
)
STEPS = st.lists(
    st.tuples(st.integers(1, 9), st.text(), VALUES, VALUES, st.text(), st.text(max_size=3)),
    max_size=4,
    unique_by=lambda step: step[0],
)


def canonical(document: Any) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def utc(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment else None


@given(
    steps=STEPS,
    planned=st.lists(st.integers(1, 9), max_size=5, unique=True),
    started=MOMENTS,
    ended=MOMENTS,
    name=st.none() | st.text(),
    checksum=st.none() | st.just(CHECKSUM),
    user=st.none() | st.integers(),
    counts=st.lists(st.integers(0, 99), min_size=4, max_size=4),
    slug=st.text(),
    version=st.integers(),
)
def test_the_rules_of_the_formats_hold_in_general(  # noqa: PLR0917 - drawn one by one
    steps: list[tuple[Any, ...]],
    planned: list[int],
    started: datetime | None,
    ended: datetime | None,
    name: str | None,
    checksum: str | None,
    user: int | None,
    counts: list[int],
    slug: str,
    version: int,
) -> None:
    names = ("error_count", "warning_count", "info_count", "total_findings")
    run = example(
        steps=[
            StepRun(key, f"k{key}", key, status, json.dumps(ins), json.dumps(outs), error, digest)
            for key, status, ins, outs, error, digest in steps
        ],
        workflow=Workflow(slug, version, [WorkflowStep(n, f"k{n}", f"v{n}", n) for n in planned]),
        started_at=json.dumps(started and started.isoformat()),
        ended_at=json.dumps(ended and ended.isoformat()),
        submission_name=name,
        checksum=checksum,
        user_id=user,
        counts=dict(zip(names, counts, strict=True)),
    )
    hashed = {
        "run_id": str(RUN),
        "content_hash": checksum or "",
        "user_id": user,
        "submission_name": name or None,
        "status": "TIMED_OUT",
        "started_at": utc(started),
        "ended_at": utc(ended),
        "duration_ms": 0,
        "steps": [
            {
                "step_key": f"k{key}",
                "step_order": key,
                "status": status,
                "input_values": ins,
                "output_values": outs,
                "error": error,
            }
            for key, status, ins, outs, error, _ in steps
        ],
    } | dict(zip(names, counts, strict=True))
    ran = {key: (status, digest or None) for key, status, _, _, _, digest in steps}
    output_hash = hashlib.sha256(canonical(hashed).encode()).hexdigest()
    written = {
        "$schema": "https://validibot.com/schemas/evidence-manifest-v2.json",
        "run_id": str(RUN),
        "completed_at": utc(ended),
        "status": "TIMED_OUT",
        "workflow": {
            "slug": slug,
            "version": str(version),
            "steps": [
                {
                    "key": f"k{number}",
                    "status": ran.get(number, ("NOT_RUN", None))[0],
                    "validator": f"v{number}",
                    "validator_version": str(number),
                    "backend_image_digest": ran.get(number, ("NOT_RUN", None))[1],
                }
                for number in planned
            ],
        },
        "input_sha256": checksum,
        "output_envelope_sha256": output_hash,
    }
    made = manifest(run)
    assert made.output_hash == output_hash
    assert made.content == canonical(written).encode()
