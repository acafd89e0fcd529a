"""`python -m deployments`: set up the Prefect server that PREFECT_API_URL names.

It creates or updates the work pool, the deployments with their schedules, and the automations. What
an operator has changed (a schedule edited, added, deleted or paused, an automation switched off)
is kept, and listed. If its default has changed since, this is a conflict: its line says `needs your
approval`, and the event `validibot-maintenance.approval-needed` reports it to the server's
automations.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
from prefect.settings import PREFECT_API_URL

from deployments.names import PREFECT_FILE
from deployments.setup.apply import AppliedSchedule, Outcome, apply
from deployments.table import aligned
from flows.engine import POLL_SECONDS, health_address, why_unreachable
from maintenance.command_line import Parser, run_command, say
from maintenance.errors import MaintenanceError
from maintenance.outside_text import one_line

OK, FAILED = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Apply prefect.yaml and print what was done; return the exit status."""
    options = _parse(arguments)
    try:
        wait_for_server(options.wait)
        outcome = apply(
            options.prefect_file.resolve(),
            reset_schedules=options.reset_schedules,
            bring_back=options.bring_back,
            forget=options.forget,
            dry_run=options.dry_run,
        )
    except (MaintenanceError, httpx.HTTPError, OSError) as error:
        print(f"python -m deployments: {one_line(str(error))}", file=sys.stderr)
        return FAILED
    say(to_text(outcome))
    return OK


def wait_for_server(seconds: float) -> None:
    """Wait until a Prefect server answers, at most so long; `apply` says what is wrong then."""
    health = health_address(PREFECT_API_URL.value() or "")
    deadline = time.monotonic() + seconds
    while health and time.monotonic() < deadline and why_unreachable(health):
        time.sleep(POLL_SECONDS)


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
    if changes.undone:
        lines = [*changes.undone, f"to bring it back: {changes.command} --bring-back"]
        lines.append(f"to leave it so: {changes.command} --forget")
        parts.append(
            "Emptied, as `prefect deploy` does:\n" + "\n".join(f"  {line}" for line in lines)
        )
    if outcome.unsent:
        parts.append(f"Could not send the events about conflicts: {outcome.unsent}")
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
    return aligned(rows)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
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
        help="replace operators' schedules with the file's; paused ones stay paused",
    )
    undone = parser.add_mutually_exclusive_group()
    undone.add_argument(
        "--bring-back",
        action="store_true",
        help="set again the parameters that `prefect deploy` has emptied",
    )
    undone.add_argument(
        "--forget", action="store_true", help="leave parameters that were emptied as they are"
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would be changed")
    parser.add_argument(
        "--wait",
        type=float,
        default=0,
        metavar="SECONDS",
        help="longest wait for a Prefect server that does not answer yet (default: %(default)s)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
