"""A report as Markdown, for the Prefect UI."""

from collections.abc import Iterable, Iterator, Mapping

from maintenance.outside_text import as_markdown
from maintenance.report import Report
from maintenance.report_facts import facts_of
from maintenance.wording import human_bytes


def to_markdown(report: Report) -> str:
    """Return the report as Markdown."""
    title = f"# {report.job}" + (" (dry run: nothing was changed)" if report.dry_run else "")
    parts = [title, f"**{as_markdown(report.summary())}**", *_wrong(report), *_counts(report)]
    if report.throttled_because:
        parts.append(_listed("Pace", report.throttled_because))
    if report.warnings:
        parts.append(_listed("Warnings", report.warnings))
    return "\n\n".join(part for part in (*parts, _facts(report)) if part) + "\n"


def _wrong(report: Report) -> Iterator[str]:
    """Yield what failed and what to do."""
    if report.errors:
        yield _listed("Errors", report.errors)
    if report.failures:
        items = [
            f"- `{as_markdown(one.item)}`: {as_markdown(one.cause)} ({as_markdown(one.action)})"
            for one in report.failures
        ]
        more = report.failed > len(report.failures)
        rest = f"\n\nThe first {len(report.failures)} of {report.failed:,}." if more else ""
        yield "## Failures\n\n" + "\n".join(items) + rest


def _counts(report: Report) -> Iterator[str]:
    if report.selected or report.repaired:
        yield (
            "| selected | done | failed | deferred | skipped |\n|--:|--:|--:|--:|--:|\n"
            f"| {report.selected:,} | {report.done:,} | {report.failed:,}"
            f" | {report.deferred:,} | {report.skipped:,} |"
        )
    if report.files:
        verb = "would be deleted" if report.dry_run else "deleted"
        yield f"Files {verb}: {report.files:,} ({human_bytes(report.bytes)})"
    yield _residue(report)
    yield _table("Rows by table", report.rows_by_table)
    yield _table("Repaired", report.repaired)
    yield _table("Unknown policies, treated as DO_NOT_STORE", report.unknown_policies)


def _listed(title: str, texts: Iterable[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {as_markdown(one)}" for one in texts)


def _facts(report: Report) -> str:
    facts = facts_of(report)
    if report.fingerprint:
        facts["Selection"] = f"`{report.fingerprint}`"
    return "## Run\n\n" + "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _residue(report: Report) -> str:
    rows = [
        f"| {kind} | {found.items:,} | {found.rows:,} | {found.files:,} |"
        f" {human_bytes(found.bytes)} |"
        for kind, found in sorted(report.reclaimed.items())
    ]
    head = "| Residue | items | rows | files | size |\n|---|--:|--:|--:|--:|\n"
    return head + "\n".join(rows) if rows else ""


def _table(title: str, counts: Mapping[str, int]) -> str:
    rows = [f"| {as_markdown(name)} | {count:,} |" for name, count in counts.items() if count]
    return f"| {title} | |\n|---|--:|\n" + "\n".join(rows) if rows else ""
