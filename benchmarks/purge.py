"""How fast the three purges are: ours, beside the limit and the row-by-row way.

Run it with `python -m benchmarks.purge [--job JOB] [--items 10000]`. Each way works on a copy of
the same data, in a process of its own, beside another client that reads and updates single rows.
The memory of a thousand items is measured first, to compare with.
"""

import argparse
from contextlib import AbstractContextManager
from dataclasses import replace

from benchmarks.stage import DUE, Stage, machine, stage
from benchmarks.ways import Outcome, run_way

JOBS = ("purge-expired-submissions", "purge-expired-outputs", "process-purge-retries")
ROW_BY_ROW_ITEMS = 3_000
"""The upper bound for the row-by-row way: its rate does not depend on the number of items."""
FEW = 1_000

PREPARE = {
    "purge-expired-submissions": (),
    "purge-expired-outputs": (
        (
            "UPDATE validations_validationrun SET output_retention_policy = 'STORE_7_DAYS',"
            " output_expires_at = ended_at + interval '7 days', output_purged_at = NULL"
        ),
        (
            "UPDATE validations_validationrun SET output_expires_at = now() - interval '1 minute'"
            " WHERE output_expires_at > now()"
        ),
    ),
    "process-purge-retries": (
        "DELETE FROM submissions_purgeretry",
        "UPDATE submissions_submission SET retention_policy = 'DO_NOT_STORE', expires_at = NULL",
        (
            "INSERT INTO submissions_purgeretry"
            " (submission_id, created_at, next_retry_at, attempt_count, last_error)"
            " SELECT id, created, created, 0, '' FROM submissions_submission"
        ),
    ),
}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", choices=JOBS, default=JOBS[0])
    parser.add_argument("--items", type=int, default=10_000, help="submissions (default 10,000)")
    options = parser.parse_args()
    with _stage(options.job, FEW) as prepared:
        few = _ours(prepared, options.job)
    with _stage(options.job, options.items) as prepared:
        rows = {
            "ours, through the flow": _ours(prepared, options.job),
            "limit: one transaction, plain unlink": _limit(prepared, options.job),
            "the same, empty directories removed": _limit(prepared, options.job, "--directories"),
            "one transaction per item": _row_by_row(prepared, options.job, options.items),
        }
    ours, limit, _, single = rows.values()
    print(f"{machine()}\n{options.job}, {ours.items:,} items\n")
    print("| way | items/s | of the limit | peak MiB | longest transaction | other client |")
    print("|---|--:|--:|--:|--:|---|")
    for name, outcome in rows.items():
        print(
            f"| {name} | {outcome.rate:,.0f} | {outcome.rate / limit.rate:.2f}"
            f" | {outcome.peak_mib:,.0f} | {outcome.longest_transaction:.2f} s"
            f" | {outcome.latency} |"
        )
    print(
        f"\nOurs is {ours.rate / single.rate:.1f} times one transaction per item; its peak memory"
        f" is {ours.peak_mib - few.peak_mib:.0f} MiB above that of {few.items:,} items."
    )


def _stage(job: str, items: int) -> AbstractContextManager[Stage]:
    spec = replace(DUE, submissions=items)
    return stage(spec, PREPARE[job])


def _ours(prepared: Stage, job: str) -> Outcome:
    with prepared.copy() as copy:
        return run_way(copy, ["-m", "benchmarks.measured", job, "--json"])


def _limit(prepared: Stage, job: str, *options: str) -> Outcome:
    with prepared.copy() as copy:
        return run_way(copy, ["-m", "benchmarks.limit", job, *options])


def _row_by_row(prepared: Stage, job: str, items: int) -> Outcome:
    batches = str(min(items, ROW_BY_ROW_ITEMS))
    with prepared.copy() as copy:
        return run_way(
            copy,
            [
                *("-m", "benchmarks.measured", job, "--json"),
                *("--batch-size", "1", "--max-batches", batches),
            ],
        )


if __name__ == "__main__":
    main()
