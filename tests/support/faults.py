"""Faults that a server of the tests puts in front of its real answers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock


@dataclass(frozen=True)
class Request:
    """What of a request a fault may look at."""

    method: str
    path: str
    query: str
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What a server says instead."""

    status: int
    body: bytes
    content_type: str = "application/json"


@dataclass
class Faults:
    """The faults of one server, and the requests that it was sent."""

    requests: list[Request] = field(default_factory=list)
    _answers: list[tuple[Callable[[Request], bool], Answer, int]] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def answer(self, when: Callable[[Request], bool], answer: Answer, times: int = 10_000) -> None:
        """Give an answer to the next requests of a kind."""
        with self._lock:
            self._answers.append((when, answer, times))

    def of(self, request: Request) -> Answer | None:
        """Write a request down; return what to say instead of the real answer, if anything."""
        with self._lock:
            self.requests.append(request)
            for place, (when, answer, times) in enumerate(self._answers):
                if times > 0 and when(request):
                    self._answers[place] = (when, answer, times - 1)
                    return answer
        return None

    def clear(self) -> None:
        """Answer truthfully again."""
        with self._lock:
            self._answers.clear()
            self.requests.clear()
