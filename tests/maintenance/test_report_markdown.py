import re
from datetime import UTC, datetime, timedelta

import pytest

from maintenance.report import Failure, Overdue, Report
from maintenance.report_markdown import to_markdown

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)

HOSTILE = [
    "a\n# Heading\n\n| x | y |",
    "a | b || c",
    "```\ncode",
    "`x` and ``y``",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![](https://tracker.example/x.png)",
    "\\[click](javascript:alert(1)) \\| \\`x\\`",
    "a\r\nb\u2028c\x0bd",
    "\x1b[31mred\x1b]0;title\x07\x9b1m",
    "[ref]: https://evil.example",
]


def report(**values: object) -> Report:
    return Report.model_validate({"job": "clear-sessions", "dry_run": False, "as_of": NOW} | values)


UNESCAPED = r"(?<!\\)(?:\\\\)*"


def shape(markdown: str) -> list[tuple[str, int, int]]:
    """The lines by their kind alone: a text cannot add lines, columns, code, links or HTML."""
    assert not re.search(UNESCAPED + r"[\[\]]", markdown)
    assert "<" not in markdown
    assert all(char == "\n" or char.isprintable() for char in markdown)
    lines = markdown.split("\n")
    assert markdown.splitlines() == lines[:-1]
    return [(line[:2], len(re.findall(UNESCAPED + r"\|", line)), line.count("`")) for line in lines]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("where", ["cause", "item", "warning", "policy", "table", "message"])
def test_a_hostile_text_changes_nothing_but_itself(text: str, where: str) -> None:
    def with_text(value: str) -> Report:
        values: dict[str, object] = {"selected": 1, "failed": 1}
        item, cause = "submission 1", "disk"
        if where == "cause":
            cause = value
        elif where == "item":
            item = value
        elif where == "warning":
            values["warnings"] = [value, "another"]
        elif where == "policy":
            values["unknown_policies"] = {value: 1}
        elif where == "table":
            values["rows_by_table"] = {value: 1}
        else:
            values |= {"message": value, "stopped_because": "error"}
        return report(**values, failures=[Failure(item=item, cause=cause)])

    assert shape(to_markdown(with_text(text))) == shape(to_markdown(with_text("harmless")))


def test_the_check_above_notices_what_it_should() -> None:
    plain = shape("- a\n")
    for line in ("- a\n- b\n", "- `a`\n", "- a | b\n", "# a\n"):
        assert shape(line) != plain
    for line in ("- [a](b)\n", "- <b>\n", "- \\\\[a](b)\n", "- a\x1b\n"):
        with pytest.raises(AssertionError):
            shape(line)


def test_a_full_report_shows_everything() -> None:
    markdown = to_markdown(
        report(
            selected=1234,
            done=1230,
            failed=2,
            deferred=1,
            skipped=1,
            rows_by_table={"django_session": 1230, "untouched": 0},
            repaired={"deadlines repaired": 5},
            unknown_policies={"STORE_FOREVER": 2},
            files=12,
            bytes=2048,
            fingerprint="ab" * 16,
            cutoff=NOW - timedelta(days=30),
            oldest=NOW - timedelta(days=60),
            newest=NOW - timedelta(days=31),
            batches=7,
            duration_seconds=3.21,
            stopped_because="time_budget",
            overdue=Overdue(rows=9, oldest_age_seconds=90_061),
            failures=[Failure(item="submission 1", cause="disk full")],
            warnings=["slow"],
        )
    )
    assert markdown == MARKDOWN


MARKDOWN = """\
# clear-sessions

**1,230 of 1,234 done, 2 failed, 1 deferred, 1 skipped, 5 deadlines repaired, 12 files (2.0 KiB), \
stopped by time budget, 9 still overdue**

## Failures

- `submission 1`: disk full (correct the cause; the next run of the job tries it again)

The first 1 of 2.

| selected | done | failed | deferred | skipped |
|--:|--:|--:|--:|--:|
| 1,234 | 1,230 | 2 | 1 | 1 |

Files deleted: 12 (2.0 KiB)

| Rows by table | |
|---|--:|
| django_session | 1,230 |

| Repaired | |
|---|--:|
| deadlines repaired | 5 |

| Unknown policies, treated as DO_NOT_STORE | |
|---|--:|
| STORE_FOREVER | 2 |

## Warnings

- slow

## Run

- Up to: 2026-11-15 12:00:00 UTC
- Stopped because: time budget
- Took: 3.2 s, 7 batches
- Cutoff: 2026-10-16 12:00:00 UTC
- Oldest and newest row: 2026-09-16 12:00:00 and 2026-10-15 12:00:00 UTC
- Still overdue: 9, the oldest for 25 hours
- Selection: `abababababababababababababababab`
"""


def test_an_empty_report_is_short() -> None:
    assert to_markdown(report()) == (
        "# clear-sessions\n\n**Nothing to do**\n\n## Run\n\n- Up to: 2026-11-15 12:00:00 UTC\n"
        "- Stopped because: drained\n- Took: 0.0 s, 0 batches\n"
    )


def test_a_dry_run_says_so_twice() -> None:
    markdown = to_markdown(report(dry_run=True, selected=1, files=1, bytes=10))
    assert markdown.startswith("# clear-sessions (dry run: nothing was changed)\n")
    assert "Files would be deleted: 1 (10 B)" in markdown
    assert "Files deleted" not in markdown


@pytest.mark.parametrize(("failed", "cut"), [(19, False), (20, False), (21, True), (1500, True)])
def test_a_list_that_was_cut_says_of_how_many(failed: int, cut: bool) -> None:
    failures = [Failure(item=str(n), cause="disk") for n in range(min(failed, 20))]
    markdown = to_markdown(report(selected=failed, failed=failed, failures=failures))
    assert (f"The first 20 of {failed:,}." in markdown) == cut
    assert markdown.count(": disk (") == min(failed, 20)
