"""`python -m deployments`: set up the Prefect server that PREFECT_API_URL names.

It makes or updates the work pool, the deployments with their schedules, and the automations. What
an operator has changed (a schedule edited, added, deleted or paused, an automation switched off)
is kept, and told. Where its default has changed since, the line says `needs your approval`, and the
event `validibot-maintenance.approval-needed` tells it to the server's automations.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from deployments.names import PREFECT_FILE
from deployments.setup.apply import AppliedSchedule, Outcome, apply
from maintenance.errors import MaintenanceError

OK, FAILED = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Apply prefect.yaml and print what was done; return the exit status."""
    options = _parse(arguments)
    try:
        outcome = apply(
            options.prefect_file.resolve(),
            reset_schedules=options.reset_schedules,
            dry_run=options.dry_run,
        )
    except (MaintenanceError, httpx.HTTPError, OSError) as error:
        print(f"python -m deployments: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    print(to_text(outcome))
    return OK


def to_text(outcome: Outcome) -> str:
    """Return what was done, what was kept, and the schedules as a table."""
    changes = outcome.changes
    made = "Would change" if changes.dry_run else "Changed"
    parts = [
        f"{title}:\n" + "\n".join(f"  {line}" for line in lines)
        for title, lines in ((made, changes.made), ("Kept", changes.kept))
        if lines
    ]
    if not changes.made:
        parts.insert(0, f"{made}: nothing")
    if outcome.untold:
        parts.append(f"Could not tell the server's automations what waits: {outcome.untold}")
    if outcome.schedules:
        parts.append(to_table(outcome.schedules))
    return "\n\n".join(parts)


def to_table(schedules: Sequence[AppliedSchedule]) -> str:
    """Return the schedules as an aligned table."""
    rows = [("deployment", "schedule", "from", "paused", "next run")]
    for one in schedules:
        coming = f"{one.next_run:%Y-%m-%d %H:%M} UTC" if one.next_run else "none"
        source = "prefect.yaml" if one.declared else "operator"
        rows.append((one.deployment, one.live.text, source, "yes" if one.paused else "no", coming))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deployments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--prefect-file", type=Path, default=PREFECT_FILE, help="default: %(default)s"
    )
    parser.add_argument(
        "--reset-schedules",
        action="store_true",
        help="take the file's schedules where an operator has changed them; paused ones stay so",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only say what would be done; changes nothing"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
