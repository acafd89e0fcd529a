"""The hot statements use the indexes that Validibot has (their plans, on a filled database)."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, Executable
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ClauseElement

from demo.sample import SampleSpec, load_sample
from maintenance.cutoff import Cutoff
from tasks.batching.row_changes import Changes
from tasks.columns import RUNS
from tasks.purge import output_selection as due_outputs
from tasks.purge import submission_selection as due_submissions
from tasks.purge.output_rows import OutputItem, output_changes, read_outputs
from tasks.purge.queued_submissions import due_rows
from tasks.purge.submission_rows import SubmissionItem, purge_changes, read_related


class Explain(Executable, ClauseElement):
    """EXPLAIN of another statement."""

    inherit_cache = False

    def __init__(self, statement: Any) -> None:
        self.statement = statement

    def __getattr__(self, name: str) -> Any:
        """Be the statement to the compiler, which asks for details of an UPDATE."""
        return getattr(self.statement, name)


@compiles(Explain)
def _explain(element: Explain, compiler: Any, **options: Any) -> str:
    return f"EXPLAIN {compiler.process(element.statement, **options)}"


NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
ROWS = 50


@pytest.fixture(scope="module")
def filled(module_database: Engine, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Enough rows that a sequential scan would be the wrong plan, most of them not due."""
    spec = SampleSpec(submissions=4_000, expired_share=0.1, with_files=False)
    load_sample(module_database, tmp_path_factory.mktemp("sample"), spec, NOW)
    return module_database


def plan(engine: Engine, statement: Any) -> str:
    with engine.connect() as connection:
        lines: list[str] = [row[0] for row in connection.execute(Explain(statement))]
    return "\n".join(lines)


def test_the_claim_of_due_submissions_follows_the_index_on_their_deadline(filled: Engine) -> None:
    claim = due_submissions.claimable(Cutoff(NOW, NOW), retry_failed=False).limit(ROWS)
    explained = plan(filled, claim)
    assert "submissions_submission_expires_at" in explained
    assert "Seq Scan on submissions_submission" not in explained


def test_the_claim_of_due_outputs_follows_the_index_on_their_deadline(filled: Engine) -> None:
    claim = due_outputs.claimable(due_outputs.dated(Cutoff(NOW, NOW)))
    order = (RUNS.output_expires_at, RUNS.id)
    explained = plan(filled, claim.order_by(*order).limit(ROWS))
    assert "validations_validationrun_output_expires_at" in explained
    assert "Seq Scan on validations_validationrun" not in explained


def test_the_claim_of_queued_submissions_reads_them_by_their_key(filled: Engine) -> None:
    explained = plan(filled, due_rows(Cutoff(NOW, NOW)).limit(ROWS))
    assert "submissions_submission_pkey" in explained
    assert "Seq Scan on submissions_submission" not in explained


def test_every_change_of_a_purge_finds_its_rows_by_an_index(filled: Engine) -> None:
    with filled.connect() as connection:
        cutoff = Cutoff(NOW, NOW)
        claim = due_submissions.claimable(cutoff, retry_failed=False).limit(ROWS)
        items = [SubmissionItem(*row) for row in connection.execute(claim)]
        read_related(connection, items)
        runs = due_outputs.due_outputs(due_outputs.dated(cutoff)).limit(ROWS)
        outputs = [OutputItem(*row) for row in connection.execute(runs)]
        read_outputs(connection, outputs)
    assert len(items) == len(outputs) == ROWS
    changes: Changes = [
        *purge_changes(items, redact_traces=True),
        *output_changes(outputs, redact_traces=True),
    ]
    assert len(changes) > 10
    for change in changes:
        if change.table.name == "submissions_purgeretry":
            continue  # a queue is short, and reading it whole is the right plan
        explained = plan(filled, change.statement())
        assert f"Seq Scan on {change.table.name}" not in explained, explained
