"""The permit to delete: files are deleted only while the claim on their rows is alive (SPEC 10.2).

A process can be stopped for any length of time between two statements: by SIGSTOP, by a paused
virtual machine, by a storage that hangs. Meanwhile the database may have ended its session, and
another process may have changed the rows whose files are being deleted. So the permit is asked
again before each deletion that is not directly preceded by an answer.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from threading import Lock
from typing import TypeVar

R = TypeVar("R")

FRESH_SECONDS = 0.5
"""How long an answer is good for."""


class Permit:
    """The permission to go on deleting; it may be checked from several threads at once."""

    def __init__(self, ask: Callable[[], None], fresh_seconds: float = FRESH_SECONDS) -> None:
        """Take the question, without asking it yet.

        Args:
            ask: returns while deleting is allowed, and raises when it is not. It is called by one
                thread at a time.
            fresh_seconds: how long an answer is good for.
        """
        self._ask = ask
        self._fresh_seconds = fresh_seconds
        self._lock = Lock()
        self._allowed_at: float | None = None
        self._refusal: Exception | None = None

    def check(self) -> None:
        """Return if deleting was allowed a moment ago, or is allowed now.

        Raises:
            Exception: what `ask` raised. It is kept, and raised by every later check.
        """
        if self._refusal is None and self._is_fresh():
            return
        with self._lock:
            if self._refusal is not None:
                raise self._refusal
            if self._is_fresh():
                return
            # The answer is as old as the question.
            asked_at = _now()
            try:
                self._ask()
            except Exception as refusal:
                self._refusal = refusal
                raise
            self._allowed_at = asked_at

    def _is_fresh(self) -> bool:
        return self._allowed_at is not None and _now() - self._allowed_at < self._fresh_seconds


def _now() -> float:
    """Return the seconds of a clock that does not stop while the machine is suspended."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


ALWAYS = Permit(lambda: None, fresh_seconds=float("inf"))
"""Deleting is always allowed. For tests and tools; a job passes the permit of its claim."""


def wait_for_all(work: Sequence[Future[R]]) -> list[R]:
    """Wait until every thread has ended its work; return the results, in their order.

    Raises:
        Exception: the first error; by then no thread deletes any more.
    """
    wait(work)
    return [one.result() for one in work]
