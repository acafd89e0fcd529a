"""`python -m deployments`: set up the Prefect server that PREFECT_API_URL names."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from deployments.apply import AppliedSchedule, ApplyError, apply
from deployments.names import PREFECT_FILE

OK, FAILED = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Apply prefect.yaml and print the schedules; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deployments", description=__doc__)
    parser.add_argument(
        "--prefect-file", type=Path, default=PREFECT_FILE, help="default: %(default)s"
    )
    try:
        schedules = apply(parser.parse_args(arguments).prefect_file.resolve())
    except (ApplyError, httpx.HTTPError, OSError) as error:
        print(f"python -m deployments: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    print(to_table(schedules))
    return OK


def to_table(schedules: Sequence[AppliedSchedule]) -> str:
    """Return the schedules as an aligned table."""
    rows = [("deployment", "schedule (UTC)", "paused", "next run")]
    for one in schedules:
        coming = f"{one.next_run:%Y-%m-%d %H:%M} UTC" if one.next_run else "none"
        rows.append((one.deployment, one.cron, "yes" if one.paused else "no", coming))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
