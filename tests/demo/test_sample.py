"""The sample is what its summary says, always the same, and within every rule of the tables."""

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from demo.sample import SampleSpec, SampleSummary, load_sample
from maintenance.schema import metadata, migrations
from maintenance.storage.marker import MARKER

AS_OF = datetime(2026, 11, 15, 12, 0, 0, 250_000, tzinfo=UTC)
SPEC = SampleSpec(
    submissions=400, active_share=0.1, odd_share=0.1, interrupted_share=0.3, chunk=150
)

# The deadline of each submission by the rule (SPEC 3), and whether it has an active run; written
# from the rule, not from the code that makes the sample.
FACTS = """
WITH facts AS (
  SELECT s.*,
    EXISTS (
      SELECT FROM validations_validationrun r WHERE r.submission_id = s.id
      AND r.status NOT IN ('SUCCEEDED', 'FAILED', 'CANCELED', 'TIMED_OUT')
    ) AS active,
    EXISTS (SELECT FROM submissions_purgeretry p WHERE p.submission_id = s.id) AS queued,
    coalesce(
      (SELECT max(r.ended_at) FROM validations_validationrun r WHERE r.submission_id = s.id),
      s.created
    ) + CASE s.retention_policy WHEN 'STORE_1_DAY' THEN interval '24 hours'
        WHEN 'STORE_7_DAYS' THEN interval '168 hours'
        WHEN 'STORE_30_DAYS' THEN interval '720 hours' END AS deadline
  FROM submissions_submission s
), output AS (
  SELECT r.*,
    r.status IN ('SUCCEEDED', 'FAILED', 'CANCELED', 'TIMED_OUT') AS terminal,
    r.ended_at + CASE r.output_retention_policy WHEN 'DO_NOT_STORE' THEN interval '0'
        WHEN 'STORE_1_DAY' THEN interval '24 hours' WHEN 'STORE_7_DAYS' THEN interval '168 hours'
        WHEN 'STORE_30_DAYS' THEN interval '720 hours'
        WHEN 'STORE_90_DAYS' THEN interval '2160 hours'
        WHEN 'STORE_1_YEAR' THEN interval '8760 hours' END AS deadline
  FROM validations_validationrun r
)
"""
FINITE = "content_purged_at IS NULL AND deadline IS NOT NULL"
KEPT = "terminal AND output_purged_at IS NULL AND output_retention_policy <> 'STORE_PERMANENTLY'"
RECEIPT = "validations_callbackreceipt c JOIN output o ON o.id = c.validation_run_id"
OLD = "c.received_at < :as_of - interval '30 days'"
UNFINISHED = """EXISTS (SELECT FROM validations_validationruncontinuation n
  WHERE n.validation_run_id = o.id AND n.state NOT IN ('COMPLETED', 'NOT_REQUIRED'))"""
STUCK = f"""
o.status = 'RUNNING' AND NOT {UNFINISHED} AND (
  EXISTS (SELECT FROM tried WHERE run_id = o.id AND timeout_at <= :as_of)
  OR (NOT EXISTS (SELECT FROM tried WHERE run_id = o.id AND timeout_at IS NOT NULL)
      AND o.started_at < :as_of - interval '30 minutes'))
"""

COUNTS = {
    "expired": f"facts WHERE {FINITE} AND NOT active AND expires_at = deadline"
    " AND expires_at <= :as_of",
    "live": f"facts WHERE {FINITE} AND NOT active AND expires_at = deadline"
    " AND expires_at > :as_of",
    "permanent": "facts WHERE retention_policy = 'STORE_PERMANENTLY' AND expires_at IS NULL",
    "do_not_store_queued": "facts WHERE retention_policy = 'DO_NOT_STORE' AND queued"
    " AND expires_at IS NULL AND NOT active",
    "do_not_store_unqueued": "facts WHERE retention_policy = 'DO_NOT_STORE' AND NOT queued"
    " AND expires_at IS NULL AND NOT active AND latest_run_id IS NOT NULL",
    "active_overdue": f"facts WHERE {FINITE} AND active AND expires_at <= :as_of",
    "active_in_time": "facts WHERE content_purged_at IS NULL AND active AND expires_at IS NULL",
    "purged": "facts WHERE content_purged_at <= :as_of AND expires_at IS NULL",
    "missing_deadline_due": f"facts WHERE {FINITE} AND NOT active AND expires_at IS NULL"
    " AND deadline <= :as_of",
    "missing_deadline_later": f"facts WHERE {FINITE} AND NOT active AND expires_at IS NULL"
    " AND deadline > :as_of",
    "wrong_deadline": f"facts WHERE {FINITE} AND NOT active AND expires_at <= :as_of"
    " AND deadline > :as_of",
    "unknown_policy": "facts WHERE retention_policy NOT IN ('DO_NOT_STORE', 'STORE_1_DAY',"
    " 'STORE_7_DAYS', 'STORE_30_DAYS', 'STORE_PERMANENTLY') AND expires_at <= :as_of",
    "purge_retries_due": "submissions_purgeretry WHERE next_retry_at <= :as_of",
    "purge_retries_later": "submissions_purgeretry WHERE next_retry_at > :as_of",
    "port_files_kept": "submissions_submissioninputfile WHERE file_purged_at IS NULL",
    "runs_active": "output WHERE NOT terminal AND ended_at IS NULL",
    "outputs_due": f"output WHERE {KEPT} AND output_expires_at = deadline AND deadline <= :as_of",
    "outputs_live": f"output WHERE {KEPT} AND output_expires_at = deadline AND deadline > :as_of",
    "outputs_permanent": "output WHERE terminal AND output_retention_policy = 'STORE_PERMANENTLY'"
    " AND output_expires_at IS NULL",
    "outputs_purged": "output WHERE output_purged_at <= :as_of AND output_expires_at IS NULL",
    "outputs_unstamped_due": f"output WHERE {KEPT} AND output_expires_at IS NULL"
    " AND deadline <= :as_of",
    "outputs_unstamped_later": f"output WHERE {KEPT} AND output_expires_at IS NULL"
    " AND deadline > :as_of",
    "runs_stuck": f"output o WHERE {STUCK}",
    "runs_interrupted": f"output o WHERE o.status = 'RUNNING' AND {UNFINISHED}",
    "sessions_expired": "django_session WHERE expire_date < :as_of",
    "sessions_live": "django_session WHERE expire_date >= :as_of",
    "idempotency_keys_expired": "core_idempotencykey WHERE expires_at < :as_of",
    "idempotency_keys_live": "core_idempotencykey WHERE expires_at >= :as_of",
    "receipts_old_terminal": f"{RECEIPT} WHERE {OLD} AND terminal",
    "receipts_old_active": f"{RECEIPT} WHERE {OLD} AND NOT terminal",
    "receipts_recent": f"{RECEIPT} WHERE NOT {OLD}",
}
ACTIVE_ATTEMPTS = """
, tried AS (
  SELECT s.validation_run_id AS run_id, a.timeout_at
  FROM validations_executionattempt a JOIN validations_validationsteprun s ON s.id = a.step_run_id
  WHERE a.state IN ('PENDING', 'DISPATCHING', 'RUNNING', 'UNKNOWN')
)
"""

BUNDLE_QUERIES = (
    "SELECT org_id || '/' || id FROM validations_validationrun",
    """SELECT s.validation_run_id || '/' || a.id FROM validations_executionattempt a
       JOIN validations_validationsteprun s ON s.id = a.step_run_id""",
    """SELECT org_id || '/' || id FROM validations_validationrun
       WHERE output_purged_at IS NULL AND status <> 'PENDING'""",
)


def found(database: Engine) -> dict[str, int]:
    with database.connect() as connection:
        return {
            name: connection.execute(
                text(f"{FACTS}{ACTIVE_ATTEMPTS} SELECT count(*) FROM {where}"),
                {"as_of": AS_OF},
            ).scalar_one()
            for name, where in COUNTS.items()
        }


def fingerprints(database: Engine) -> dict[str, str | None]:
    with database.connect() as connection:
        return {
            name: connection.scalar(
                text(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {name} t")
            )
            for name in metadata.tables
        }


def files_below(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and path.name != MARKER
    }


def counts(summary: SampleSummary) -> dict[str, int]:
    return {name: getattr(summary, name) for name in COUNTS}


def empty(database: Engine) -> None:
    with database.begin() as connection:
        names = ", ".join(sorted({*metadata.tables} - {migrations.name}))
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))


@dataclass(frozen=True)
class Sample:
    """A sample that tests read and do not change."""

    database: Engine
    root: Path
    summary: SampleSummary
    rows: dict[str, str | None]
    """The fingerprints of its tables."""


@pytest.fixture(scope="module")
def sample(module_database: Engine, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    root = tmp_path_factory.mktemp("sample")
    summary = load_sample(module_database, root, SPEC, AS_OF)
    return Sample(module_database, root, summary, fingerprints(module_database))


def test_the_summary_is_what_plain_queries_find(sample: Sample) -> None:
    assert found(sample.database) == counts(sample.summary)
    assert all(counts(sample.summary).values()), "a group that the sample lacks is not tested"


def test_every_count_of_the_summary_is_checked_here() -> None:
    others = {"rows", "files", "file_bytes"}
    assert {field.name for field in fields(SampleSummary)} == set(COUNTS) | others


def test_submissions_and_runs_are_each_in_one_group(sample: Sample) -> None:
    summary = sample.summary
    names = list(COUNTS)
    groups = names[: names.index("unknown_policy") + 1]
    assert sum(getattr(summary, name) for name in groups) == SPEC.submissions
    runs = names[names.index("runs_active") : names.index("runs_stuck")]
    assert sum(getattr(summary, name) for name in runs) == summary.rows["validations_validationrun"]


def test_the_summary_counts_rows_files_and_bytes(sample: Sample) -> None:
    summary = sample.summary
    with sample.database.connect() as connection:
        rows = {
            name: connection.scalar(text(f"SELECT count(*) FROM {name}"))
            for name in metadata.tables
        }
    assert summary.rows == rows
    files = [path for path in sample.root.rglob("*") if path.is_file() and path.name != MARKER]
    sizes = [path.stat().st_size for path in files]
    assert (summary.files, summary.file_bytes) == (len(sizes), sum(sizes))


def test_the_same_seed_gives_the_same_rows_and_files(
    sample: Sample, database: Engine, tmp_path: Path
) -> None:
    results = [(sample.summary, sample.rows, files_below(sample.root))]
    for place, seed in enumerate((SPEC.seed, SPEC.seed + 1)):
        root = tmp_path / str(place)
        root.mkdir()
        summary = load_sample(database, root, replace(SPEC, seed=seed), AS_OF)
        results.append((summary, fingerprints(database), files_below(root)))
        empty(database)
    assert results[0] == results[1]
    assert results[0][1] != results[2][1]
    assert results[0][2] != results[2][2]


@pytest.mark.parametrize("chunk", [SPEC.submissions, 33])
def test_the_chunk_size_changes_nothing(
    sample: Sample, database: Engine, storage_root: Path, chunk: int
) -> None:
    load_sample(database, storage_root, replace(SPEC, chunk=chunk, with_files=False), AS_OF)
    assert fingerprints(database) == sample.rows


def test_files_that_rows_name_exist_and_are_what_the_rows_say(sample: Sample) -> None:
    with sample.database.connect() as connection:
        named = {
            (f"private/{key}", checksum)
            for key, checksum in connection.execute(
                text(
                    "SELECT input_file, checksum_sha256 FROM submissions_submission"
                    " WHERE input_file <> '' UNION ALL"
                    " SELECT input_file, checksum_sha256 FROM submissions_submissioninputfile"
                    " WHERE input_file <> '' UNION ALL"
                    " SELECT file, sha256 FROM validations_artifact UNION ALL"
                    " SELECT manifest_path, manifest_hash FROM validations_runevidenceartifact"
                )
            )
        }
    there = {item for item in files_below(sample.root).items() if "/runs/" not in item[0]}
    assert named == there


def test_bundles_are_in_both_layouts(sample: Sample) -> None:
    storage_root = sample.root
    with sample.database.connect() as connection:
        runs, attempts, kept = (set(connection.scalars(text(query))) for query in BUNDLE_QUERIES)
    newer = {f"{path.parts[-2]}/{path.name}" for path in storage_root.glob("private/runs/*/*")}
    older = {f"{path.parts[-2]}/{path.name}" for path in storage_root.glob("public/files/runs/*/*")}
    assert newer
    assert older
    assert not newer & older
    assert newer | older == kept
    assert kept < runs
    folders = storage_root.glob("private/runs/*/*/attempts/*")
    assert {f"{path.parts[-3]}/{path.name}" for path in folders} <= attempts


def test_without_files_the_rows_are_the_same(
    sample: Sample, database: Engine, storage_root: Path
) -> None:
    summary = load_sample(database, storage_root / "none", replace(SPEC, with_files=False), AS_OF)
    assert fingerprints(database) == sample.rows
    assert summary.files == 0
    assert not (storage_root / "none").exists()


def test_without_checking_references_the_rows_are_the_same(
    sample: Sample, database: Engine, storage_root: Path
) -> None:
    spec = replace(SPEC, with_files=False, check_references=False)
    load_sample(database, storage_root, spec, AS_OF)
    assert fingerprints(database) == sample.rows
    with database.connect() as connection:
        assert connection.scalar(text("SHOW session_replication_role")) == "origin"


def test_shares_are_kept_exactly(database: Engine, storage_root: Path) -> None:
    spec = SampleSpec(submissions=1_000, with_files=False, expired_share=0.25)
    summary = load_sample(database, storage_root, spec, AS_OF)
    assert (summary.expired, summary.live) == (162, 488)
    assert summary.permanent == 100
    assert (summary.do_not_store_queued, summary.do_not_store_unqueued) == (50, 50)
    assert (summary.active_overdue, summary.active_in_time) == (25, 25)
    assert summary.purged == 50
    assert (summary.sessions_expired, summary.sessions_live) == (1_400, 600)
    assert (summary.idempotency_keys_expired, summary.idempotency_keys_live) == (700, 300)


def test_a_sample_of_nothing_but_expired_submissions(database: Engine, storage_root: Path) -> None:
    spec = SampleSpec(
        submissions=200,
        expired_share=1.0,
        active_share=0,
        odd_share=0,
        permanent_share=0,
        do_not_store_share=0,
        purged_share=0,
    )
    summary = load_sample(database, storage_root, spec, AS_OF)
    assert found(database) == counts(summary)
    assert summary.expired == summary.due_after_repair == 200
    assert summary.runs_active == summary.outputs_unstamped_due == 0


def test_numbers_go_on_after_the_sample(sample: Sample) -> None:
    with sample.database.connect() as connection:
        following = connection.scalar(
            text("SELECT nextval(pg_get_serial_sequence('validations_validationfinding', 'id'))")
        )
    assert following == sample.summary.rows["validations_validationfinding"] + 1


def test_a_database_with_rows_is_refused(database: Engine, storage_root: Path) -> None:
    spec = SampleSpec(submissions=10, with_files=False)
    load_sample(database, storage_root, spec, AS_OF)
    with pytest.raises(ValueError, match="empty tables"):
        load_sample(database, storage_root, spec, AS_OF)


def test_no_submissions_at_all_is_a_sample_too(database: Engine, storage_root: Path) -> None:
    summary = load_sample(
        database, storage_root, SampleSpec(submissions=0, sessions=7, stale_share=1.0), AS_OF
    )
    assert (summary.sessions_expired, summary.sessions_live, summary.files) == (7, 0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"odd_share": 1.5}, "odd_share must be between 0 and 1, not 1.5"),
        ({"submissions": -1}, "submissions must be at least 0, not -1"),
        ({"sessions": -1}, "sessions must not be negative, and is -1"),
        ({"odd_share": 0.6, "active_share": 0.6}, "the special shares add up to 1.45"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SampleSpec(), **changes)  # type: ignore[arg-type]


def test_a_moment_without_utc_is_refused(database: Engine, storage_root: Path) -> None:
    with pytest.raises(ValueError, match="as_of must be in UTC"):
        load_sample(database, storage_root, SampleSpec(submissions=1), AS_OF.replace(tzinfo=None))
