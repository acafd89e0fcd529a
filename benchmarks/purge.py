"""How fast submissions are purged: ours, beside the limit and the row-by-row way.

Run it with `python -m benchmarks.purge [--items 10000]`. Each way works on a copy of the same
data, in a process of its own, beside another client that reads and updates single rows.
"""

import argparse

from benchmarks.stage import Stage, machine, stage
from benchmarks.ways import Outcome, run_way
from maintenance.sample import SampleSpec

JOB = "purge-expired-submissions"
ROW_BY_ROW_ITEMS = 3_000
"""The row-by-row way is measured on so many items at most: its rate does not depend on them."""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000, help="submissions (default 10,000)")
    items = parser.parse_args().items
    spec = SampleSpec(
        submissions=items,
        sessions=0,
        idempotency_keys=0,
        expired_share=1.0,
        active_share=0.0,
        odd_share=0.0,
        permanent_share=0.0,
        do_not_store_share=0.0,
        purged_share=0.0,
    )
    with stage(spec) as prepared:
        rows = {
            "ours, through the flow": _ours(prepared),
            "limit: one transaction, plain unlink": _limit(prepared),
            "one transaction per item": _row_by_row(prepared, items),
        }
    print(f"{machine()}\n{items:,} submissions\n")
    print("| way | items/s | of the limit | peak MiB | longest transaction | other client |")
    print("|---|--:|--:|--:|--:|---|")
    limit = rows["limit: one transaction, plain unlink"].rate
    for name, outcome in rows.items():
        print(
            f"| {name} | {outcome.rate:,.0f} | {outcome.rate / limit:.2f}"
            f" | {outcome.peak_mib:,.0f} | {outcome.longest_transaction:.2f} s"
            f" | {outcome.latency} |"
        )


def _ours(prepared: Stage) -> Outcome:
    with prepared.copy() as copy:
        return run_way(copy, ["-m", "benchmarks.measured", JOB, "--json"])


def _limit(prepared: Stage) -> Outcome:
    with prepared.copy() as copy:
        return run_way(copy, ["-m", "benchmarks.limit"])


def _row_by_row(prepared: Stage, items: int) -> Outcome:
    batches = str(min(items, ROW_BY_ROW_ITEMS))
    with prepared.copy() as copy:
        return run_way(
            copy,
            [
                *("-m", "benchmarks.measured", JOB, "--json"),
                *("--batch-size", "1", "--max-batches", batches),
            ],
        )


if __name__ == "__main__":
    main()
