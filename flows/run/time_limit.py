"""The end of a process whose run goes on long after its time limit (SPEC 10.14)."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from flows.run.prefect_context import run_logger

Logger = logging.Logger | logging.LoggerAdapter[Any]
KILL_AFTER = timedelta(minutes=5)
"""From a run's time limit, at which it stops after its current batch, to the kill."""


@contextmanager
def killed_after(limit_seconds: float) -> Iterator[None]:
    """Kill this process with SIGKILL when the block lasts `KILL_AFTER` longer than its limit.

    A run that hangs in a system call, for example on a network file system that does not answer,
    notices neither its limit nor a stop request. What its last transaction has not committed is
    undone by PostgreSQL, and the run ends as Crashed, which the crash rescue handles. A process
    that the kernel cannot interrupt (state D) ends as soon as its system call returns.
    """
    seconds = min(limit_seconds + KILL_AFTER.total_seconds(), threading.TIMEOUT_MAX)
    timer = threading.Timer(seconds, _kill, [run_logger(), seconds])
    timer.name, timer.daemon = "time-limit", True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _kill(logger: Logger, seconds: float) -> None:
    try:
        logger.critical(
            "the run has not ended after %.0f s, its process is killed",
            seconds,
            extra={"action": "kill"},
        )
    finally:
        os.kill(os.getpid(), signal.SIGKILL)
