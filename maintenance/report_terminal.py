"""A report as text: tables and colours on a terminal, the same without them elsewhere."""

import shutil
import sys
from collections.abc import Iterable, Mapping
from io import StringIO
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from maintenance.outside_text import one_line
from maintenance.report import Report, StopReason
from maintenance.report_facts import facts_of
from maintenance.wording import human_bytes, number_of

WIDE = 100_000
"""The width that is not a terminal's: no line is broken, so that other programs can read it."""
GOOD, BAD = "bold green", "bold red"


def as_text(report: Report) -> str:
    """Return a report for standard output as it is now: a terminal, or something else."""
    with StringIO() as text:
        print_report(report, console(text))
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")


def console(file: TextIO) -> Console:
    """Return a console that writes to a file what standard output can show."""
    terminal = sys.stdout.isatty()
    return Console(
        file=file,
        width=shutil.get_terminal_size().columns if terminal else WIDE,
        force_terminal=terminal,
        no_color=None if terminal else True,
        highlight=False,
        markup=False,
        emoji=False,
    )


def print_report(report: Report, shown: Console) -> None:
    """Print what failed and what to do, the counts, rows by table, warnings, and the run."""
    plain = not shown.is_terminal
    title = report.job + (" (dry run: nothing was changed)" if report.dry_run else "")
    shown.print(Text(title, "bold"))
    wrong = report.items_failed or report.errors or report.stopped_because is StopReason.ERROR
    shown.print(Text(report.summary(), BAD if wrong else GOOD))
    _print_texts(shown, "Errors", report.errors)
    if report.failures:
        rows = [(one.item, one.cause, one.action) for one in report.failures]
        _print_table(shown, ("Failed", "Cause", "What to do"), rows, plain=plain)
        more = report.failed - len(report.failures)
        if more > 0:
            shown.print(f"and {number_of(more, 'more items')}, which the log names")
    for kind, found in sorted(report.reclaimed.items()):
        counts = (
            *(number_of(found.items, "items"), number_of(found.rows, "rows")),
            *(number_of(found.files, "files"), human_bytes(found.bytes)),
        )
        shown.print(f"{kind}: {', '.join(counts)}")
    _print_counts(shown, "Rows by table", report.rows_by_table, plain=plain)
    _print_counts(shown, "Repaired", report.repaired, plain=plain)
    policies = "Unknown policies, treated as DO_NOT_STORE"
    _print_counts(shown, policies, report.unknown_policies, plain=plain)
    _print_texts(shown, "Pace", report.throttled_because)
    _print_texts(shown, "Warnings", report.warnings)
    facts = [(f"{name}:", value) for name, value in facts_of(report).items()]
    _print_table(shown, (), facts, plain=plain)


def _print_texts(shown: Console, title: str, texts: Iterable[str]) -> None:
    for number, text in enumerate(texts):
        if number == 0:
            shown.print(Text(f"\n{title}", "bold"))
        shown.print(f"- {one_line(text)}")


def _print_counts(shown: Console, title: str, counts: Mapping[str, int], *, plain: bool) -> None:
    rows = [(name, f"{count:,}") for name, count in counts.items() if count]
    if rows:
        _print_table(shown, (title, ""), rows, plain=plain, numbers=True)


def _print_table(
    shown: Console,
    heads: tuple[str, ...],
    rows: Iterable[tuple[str, ...]],
    *,
    plain: bool,
    numbers: bool = False,
) -> None:
    drawn = box.SIMPLE_HEAD if _can_draw() else box.ASCII
    table = Table(box=None if plain else drawn, show_header=bool(heads), pad_edge=False)
    rows = list(rows)
    for place in range(len(rows[0])):
        last = place == len(rows[0]) - 1
        head = heads[place] if heads else ""
        table.add_column(head, justify="right" if numbers and last else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    shown.print()
    shown.print(table)


def _can_draw() -> bool:
    """Return whether standard output has the characters of which tables are drawn."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
