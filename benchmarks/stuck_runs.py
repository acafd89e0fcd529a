"""How fast runs that hang are ended: ours, beside one transaction a run with the same effects.

Run it with `python -m benchmarks.stuck_runs [--runs 10000]`. Each way works on a copy of the same
data, in a process of its own, beside another client that reads and updates single rows. Evidence
files are written and synced by both.
"""

import argparse

from benchmarks.stage import Stage, machine, stage
from benchmarks.ways import Outcome, run_way
from demo.sample import SampleSpec

JOB = "cleanup-stuck-runs"
FEW = 1_000
ONE_BY_ONE_RUNS = 3_000
"""The bound of the way with one transaction per run: its rate does not depend on the number."""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="runs that hang (default 10,000)")
    options = parser.parse_args()
    with stage(_spec(min(FEW, options.runs))) as prepared:
        few = _measure(prepared, "-m", "benchmarks.measured", JOB, "--json")
    with stage(_spec(options.runs)) as prepared:
        ours = _measure(prepared, "-m", "benchmarks.measured", JOB, "--json")
        most = str(min(options.runs, ONE_BY_ONE_RUNS))
        single = _measure(prepared, "-m", "benchmarks.stuck_one_by_one", most)
    print(f"{machine()}\n{JOB}, {ours.items:,} runs\n")
    print("| way | runs/s | of one by one | peak MiB | longest transaction | other client |")
    print("|---|--:|--:|--:|--:|---|")
    for name, outcome in (("ours, through the flow", ours), ("one transaction a run", single)):
        print(
            f"| {name} | {outcome.rate:,.0f} | {outcome.rate / single.rate:.1f}"
            f" | {outcome.peak_mib:,.0f} | {outcome.longest_transaction:.2f} s"
            f" | {outcome.latency} |"
        )
    print(
        f"\nOurs is {ours.rate / single.rate:.1f} times one transaction a run; its peak memory is"
        f" {ours.peak_mib - few.peak_mib:.0f} MiB above that of {few.items:,} runs."
    )


def _spec(runs: int) -> SampleSpec:
    """Return a Validibot whose submissions all have a run that hangs."""
    return SampleSpec(
        submissions=runs,
        sessions=0,
        idempotency_keys=0,
        active_share=1.0,
        stuck_share=1.0,
        odd_share=0.0,
        permanent_share=0.0,
        do_not_store_share=0.0,
        purged_share=0.0,
    )


def _measure(prepared: Stage, *command: str) -> Outcome:
    with prepared.copy() as copy:
        return run_way(copy, command)


if __name__ == "__main__":
    main()
