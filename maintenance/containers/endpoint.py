"""Requests to the container engine's address, with the SDK's errors translated.

The SDK raises its own errors, those of requests and urllib3, and OS errors. Here each becomes one
of two: transient (EngineUnavailable) or permanent (ContainerError).
"""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from docker.errors import APIError, DockerException
from requests.exceptions import RequestException, SSLError, Timeout

from maintenance.errors import ContainerError, EngineUnavailable
from maintenance.outside_text import one_line

MAX_MESSAGE_CHARACTERS = 500
"""The engine's messages are cut to this length."""

UNEXPECTED_ANSWER = (ValueError, KeyError, TypeError, AttributeError, OverflowError)
"""Errors of parsing an answer that does not come from a container engine."""

T = TypeVar("T")


@dataclass(frozen=True)
class Endpoint:
    """A container engine's address, and the time-out of a request in seconds."""

    host: str
    seconds: float

    def ask(self, call: Callable[[], T]) -> T:
        """Make a call and return its answer.

        Raises:
            EngineUnavailable: no answer in time, or a 5xx or 429.
            ContainerError: the engine refuses the request, may not be used, or is no engine.
        """
        try:
            return self.ask_for_status(call)
        except APIError as error:
            raise refusal(error) from None

    def ask_for_status(self, call: Callable[[], T]) -> T:
        """Make a call; an answer with an error status is raised as the SDK's APIError.

        Raises:
            APIError: such an answer.
            EngineUnavailable: no answer in time.
            ContainerError: the engine may not be used, or is no engine.
        """
        try:
            return call()
        except APIError:
            raise
        except (DockerException, RequestException, OSError, *UNEXPECTED_ANSWER) as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> ContainerError:
        engine = f"the container engine at {self.host}"
        root = _root(error)
        if isinstance(error, Timeout) or isinstance(root, TimeoutError):
            return EngineUnavailable(f"{engine} did not answer within {self.seconds:g} s")
        if isinstance(error, SSLError):
            return ContainerError(f"{engine}: no secure connection: {_line(root)}")
        if isinstance(root, PermissionError):
            return ContainerError(f"{engine} may not be used by this user: permission denied")
        if isinstance(error, (DockerException, *UNEXPECTED_ANSWER)):
            cause = f"{type(error).__name__}: {_line(error)}"
            return ContainerError(f"{engine} gave no valid answer: {cause}")
        if isinstance(root, OSError):
            return EngineUnavailable(f"{engine} cannot be reached: {root.strerror or _line(root)}")
        return EngineUnavailable(f"{engine} closed the connection: {_line(root)}")


def refusal(error: APIError) -> ContainerError:
    """Translate an answer with an error status, keeping the engine's message."""
    status = error.status_code or 0
    message = one_line(str(error.explanation or "without a reason"), MAX_MESSAGE_CHARACTERS)
    text = f"the container engine answered {status}: {message}"
    passes = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
    return EngineUnavailable(text) if passes else ContainerError(text)


def _root(error: BaseException) -> BaseException:
    """Return the innermost error, however the outer ones refer to it."""
    inner = next((part for part in error.args if isinstance(part, BaseException)), None)
    reason = getattr(error, "reason", None)
    if inner is None and isinstance(reason, BaseException):
        inner = reason
    found = inner or error.__cause__
    return _root(found) if found is not None else error


def _line(error: BaseException) -> str:
    return one_line(str(error), MAX_MESSAGE_CHARACTERS)
