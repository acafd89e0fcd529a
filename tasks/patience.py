"""How long a run by hand waits for what it cannot reach (SPEC 9).

A scheduled run waits for minutes, because no operator watches it and the cause may pass. By hand a
wrong host is the likely cause: the run fails at once, unless it was asked for patience. After its
first slice it waits as any other run, because then the address was right.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from maintenance.errors import LockTimeout, StatementTimeout

logger = logging.getLogger("maintenance")


@dataclass
class _Patience:
    """The patience of this process; there is one run in it."""

    has_it: bool = True
    watched: bool = False


_state = _Patience()


@contextmanager
def by_hand(*, patient: bool) -> Iterator[None]:
    """Run the block for an operator who watches it; with `patient` it waits from the start."""
    _state.has_it, _state.watched = patient, True
    try:
        yield
    finally:
        _state.has_it, _state.watched = True, False


def work_done() -> None:
    """Wait from now on: what the run needs was reached."""
    _state.has_it = True


def waits_for(error: BaseException) -> bool:
    """Return whether the run waits and tries again after a transient error.

    A lock or a slow statement is waited for in any case: there, the database has answered.
    """
    return _state.has_it or isinstance(error, (LockTimeout, StatementTimeout))


def tell_the_wait(error: BaseException, seconds: float) -> None:
    """Tell an operator who watches the run that it waits, and what ends the wait."""
    if _state.watched:
        text = "%s; the next attempt is in about %.0f s, Ctrl-C ends the run"
        logger.warning(text, error, seconds)
