"""`python -m deployments.collecting ARGUMENTS...`: Prefect's command line for a server on SQLite.

It prevents a deadlock that stops such a server for a minute. The event loop has each statement
executed by the thread of its connection, and that thread waits up to 60 seconds for SQLite's lock.
If Python's garbage collector runs in the event loop at that time and finds a cursor of the
connection, it waits for the thread; the thread waits for a transaction of another connection, and
that transaction waits for the event loop.

So the garbage collector runs in a thread of its own.
"""

import gc
import runpy
import sys
import threading
import time

YOUNG_SECONDS = 0.25
MIDDLE_EVERY = 8
OLD_EVERY = 240
"""In turns. A full collection stops everything for a tenth of a second: one per minute."""


def collect_in_a_thread() -> None:
    """Collect garbage in a thread, at intervals, and nowhere else."""
    gc.disable()
    threading.Thread(target=_collect, name="garbage collector", daemon=True).start()


def _collect() -> None:
    turn = 0
    while True:
        time.sleep(YOUNG_SECONDS)
        turn += 1
        gc.collect(generation(turn))


def generation(turn: int) -> int:
    """Return the oldest generation that a turn collects."""
    if turn % OLD_EVERY == 0:
        return 2
    return 1 if turn % MIDDLE_EVERY == 0 else 0


if __name__ == "__main__":
    collect_in_a_thread()
    sys.argv[0] = "prefect"
    runpy.run_module("prefect", run_name="__main__")
