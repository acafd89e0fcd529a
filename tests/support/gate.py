"""A gate in front of a server of the tests: how many requests are in flight at the same time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition

from tests.support.faults import Request

PATIENCE_SECONDS = 20
"""A gate that so many requests never reach opens after it, so that the test fails and ends."""

MORE_SECONDS = 0.2
"""How long an open gate waits for one request more than expected."""


@dataclass
class Gate:
    """Counts requests while they are answered; can hold them until so many are waiting."""

    most: int = 0
    """Requests that were in flight at the same time at most."""
    met: bool = False
    """Whether as many waited as the gate was closed for."""
    _wanted: int = 0
    _when: Callable[[Request], bool] = lambda _request: True
    _inside: int = 0
    _changed: Condition = field(default_factory=Condition)

    def close_for(self, wanted: int, when: Callable[[Request], bool]) -> None:
        """Count the requests of a kind afresh, and hold them until this number is waiting."""
        self.most, self.met, self._wanted, self._when = 0, False, wanted, when

    @contextmanager
    def passing(self, request: Request) -> Iterator[None]:
        """Let one request through; its answer is sent after the block."""
        if not self._when(request):
            yield
            return
        with self._changed:
            self._inside += 1
            self.most = max(self.most, self._inside)
            self._changed.notify_all()
            if not self.met and self._changed.wait_for(self._all_are_here, PATIENCE_SECONDS):
                self._changed.wait_for(lambda: self._inside > self._wanted, MORE_SECONDS)
                self.met = True
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1

    def _all_are_here(self) -> bool:
        return self.met or self._inside >= self._wanted
