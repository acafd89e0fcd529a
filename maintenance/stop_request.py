"""Stopping a run on request, between two batches.

The first SIGTERM or SIGINT is a request: the batch that is going on is finished, the run says what
it has done, and ends. A wait before another attempt is left at once. A second signal is not a
request any more: it does what it would have done without us, and ends the process. SIGUSR1, by
which the command around a worker asks all of its runs, is a request however often it comes.

Nothing depends on it: every batch is a transaction, so a run that is killed instead loses nothing
but its report. What it cannot hurry is a single long statement (`statement_timeout` bounds it).
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

REPEATABLE = signal.SIGUSR1
SIGNALS = (signal.SIGTERM, signal.SIGINT, REPEATABLE)
LOOK_SECONDS = 0.2


class StopRequested(BaseException):
    """Somebody asked this run to stop; no Exception, because no work has failed."""


@dataclass
class _Request:
    """What this process was asked; signals are the process's, and so is this."""

    asked_by: signal.Signals | None = None
    waiting: bool = False
    stopped_by: signal.Signals | None = None


_request = _Request()


def requested() -> signal.Signals | None:
    """Return the signal by which somebody has asked this run to stop; None if nobody has."""
    return _request.asked_by


def stopped_by() -> signal.Signals | None:
    """Return the signal that the latest run of this process was asked by, after its end, too."""
    return _request.asked_by or _request.stopped_by


def check() -> None:
    """Leave the run if somebody asked for it.

    Raises:
        StopRequested: somebody did.
    """
    if _request.asked_by is not None:
        raise StopRequested


def may_wait() -> bool:
    """Return whether to wait for another attempt; until work begins, a request ends the wait."""
    _request.waiting = _request.asked_by is None
    return _request.waiting


def begin_work() -> None:
    """End what `may_wait` has begun: from here on a request waits for the end of the batch."""
    _request.waiting = False


def rest(seconds: float) -> None:
    """Sleep, but not on after somebody asked."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not requested():
        time.sleep(min(left, LOOK_SECONDS))


@contextmanager
def stoppable() -> Iterator[None]:
    """Take the first signal as a request for as long as the block lasts.

    A signal that is ignored stays ignored (SIGINT of a background process), but for SIGUSR1, which
    whoever is not ready to stop has to ignore. Outside the main thread, where signals cannot be
    taken, the block runs as it is.

    Raises:
        StopRequested: by a signal during a wait.
    """
    _request.waiting, _request.stopped_by = False, None
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    taken = {
        number: handler
        for number, handler in before.items()
        if handler is not None and (handler is not signal.SIG_IGN or number is REPEATABLE)
    }

    def ask(number: int, _frame: FrameType | None) -> None:
        if _request.asked_by is not None:
            if number != REPEATABLE:
                signal.signal(number, taken[signal.Signals(number)])
                signal.raise_signal(number)
            return
        _request.asked_by = signal.Signals(number)
        if _request.waiting:
            raise StopRequested

    for number in taken:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)
        _request.stopped_by, _request.asked_by = _request.asked_by, None
