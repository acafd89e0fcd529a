"""Stop requests: a signal asks a run to stop between two batches.

After the first SIGTERM or SIGINT the run finishes its current batch, reports and ends; a wait for a
retry ends at once. A second signal has its default effect and ends the process. SIGUSR1, which
`deployments.worker` sends to all of its runs, is always a stop request and may be repeated.

Correctness does not depend on it: every batch is a transaction, so a run that is killed loses only
its report. A single long statement is not interrupted; `statement_timeout` bounds it.
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
POLL_SECONDS = 0.2


class StopRequested(BaseException):
    """The run was asked to stop; not an Exception, because no work has failed."""


@dataclass
class _Request:
    """The stop request of this process; there is one, as signals belong to the process."""

    asked_by: signal.Signals | None = None
    waiting: bool = False
    stopped_by: signal.Signals | None = None


_request = _Request()


def requested() -> signal.Signals | None:
    """Return the signal that has asked this run to stop; None without one."""
    return _request.asked_by


def stopped_by() -> signal.Signals | None:
    """Return the signal that asked the latest run of this process to stop, even after its end."""
    return _request.asked_by or _request.stopped_by


def check() -> None:
    """End the run if it was asked to stop.

    Raises:
        StopRequested: it was.
    """
    if _request.asked_by is not None:
        raise StopRequested


def may_wait() -> bool:
    """Return whether to wait for a retry; until `begin_work`, a stop request ends the wait."""
    _request.waiting = _request.asked_by is None
    return _request.waiting


def begin_work() -> None:
    """End the wait of `may_wait`: from here on a stop request takes effect after the batch."""
    _request.waiting = False


def rest(seconds: float) -> None:
    """Sleep until the time is over or the run is asked to stop."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not requested():
        time.sleep(min(left, POLL_SECONDS))


@contextmanager
def stoppable() -> Iterator[None]:
    """Handle signals as stop requests for the duration of the block.

    A signal that is ignored stays ignored (SIGINT of a background process), except SIGUSR1, which a
    process ignores as long as it is not ready to stop. Outside the main thread, where Python cannot
    handle signals, the block runs without handlers.

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
