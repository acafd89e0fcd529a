"""A report as text, for a terminal and for everything else."""

from datetime import UTC, datetime

import pytest

from maintenance.report import Failure, Overdue, Report
from maintenance.report_terminal import as_text

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
TEXT = """\
clear-sessions
1,230 of 1,234 done, 2 failed, 5 deadlines repaired, 1 file (5 B), 9 still overdue

Failed        Cause      What to do
submission 1  disk full  correct the cause; the next run of the job tries it again
and 1 more item, which the log names

Rows by table
django_session  1,230

Repaired
deadlines repaired  5

Warnings
- slow [bold]x[/]

Up to:            2026-11-15 12:00:00 UTC
Stopped because:  drained
Took:             0.0 s, 1 batch
Still overdue:    9, the oldest for 181 days
Selection:        abababababababababababababababab"""


def full(**values: object) -> Report:
    return Report.model_validate(
        {
            "job": "clear-sessions",
            "dry_run": False,
            "as_of": NOW,
            "batches": 1,
            "selected": 1234,
            "done": 1230,
            "failed": 2,
            "files": 1,
            "bytes": 5,
            "rows_by_table": {"django_session": 1230, "untouched": 0},
            "repaired": {"deadlines repaired": 5},
            "fingerprint": "ab" * 16,
            "overdue": Overdue(rows=9, oldest_age_seconds=181 * 86_400 + 5),
            "failures": [Failure(item="submission 1", cause="disk full")],
            "warnings": ["slow [bold]x[/]"],
        }
        | values
    )


def test_elsewhere_a_report_is_plain_text_that_begins_with_what_failed() -> None:
    assert as_text(full()) == TEXT


def test_no_line_is_broken_for_other_programs() -> None:
    cause = "x" * 1_500
    (line,) = (one for one in as_text(full(warnings=[cause])).splitlines() if cause in one)
    assert line == f"- {cause}"


@pytest.mark.parametrize("hostile", ["a\nb", "\x1b[31mred", "[link=http://x]y[/link]", "a\u202eb"])
def test_a_text_from_outside_is_shown_as_it_is(hostile: str) -> None:
    values = {"failures": [Failure(item=hostile, cause=hostile)], "warnings": [hostile]}
    text = as_text(full(**values, rows_by_table={hostile: 1}))
    assert len(text.splitlines()) == len(TEXT.splitlines())
    assert all(one == "\n" or one.isprintable() for one in text)
