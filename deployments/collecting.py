"""`python -m deployments.collecting ARGUMENTS...`: Prefect's command line for a server on SQLite.

Such a server can stand still for a minute. Its event loop has each statement executed by the thread
of its connection, and SQLite lets a thread that finds the database locked wait for 60 seconds. When
Python's garbage collector runs in the event loop just then, and finds a cursor of that connection,
it waits for the thread, the thread waits for a transaction of another connection, and that one
waits for the event loop.

So here the collector runs in a thread of its own, where waiting hurts nobody.
"""

import gc
import runpy
import sys
import threading
import time

YOUNG_SECONDS = 0.25
MIDDLE_EVERY = 8
OLD_EVERY = 240
"""A full collection takes a tenth of a second, in which nothing else runs: one a minute."""


def collect_in_a_thread() -> None:
    """Collect garbage at intervals for as long as the process lives, and nowhere else."""
    gc.disable()
    threading.Thread(target=_collect, name="garbage collector", daemon=True).start()


def _collect() -> None:
    turn = 0
    while True:
        time.sleep(YOUNG_SECONDS)
        turn += 1
        gc.collect(generation(turn))


def generation(turn: int) -> int:
    """Return up to which generation a turn collects."""
    if turn % OLD_EVERY == 0:
        return 2
    return 1 if turn % MIDDLE_EVERY == 0 else 0


if __name__ == "__main__":
    collect_in_a_thread()
    sys.argv[0] = "prefect"
    runpy.run_module("prefect", run_name="__main__")
