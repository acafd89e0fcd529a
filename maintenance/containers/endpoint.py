"""Calls to the engine's address, whose errors become this project's own.

The SDK's errors are of many kinds (its own, those of requests and of urllib3, plain OS errors);
each is one of two here: it passes by itself, or it does not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from docker.errors import APIError, DockerException
from requests.exceptions import RequestException, SSLError, Timeout

from maintenance.errors import ContainerError, EngineUnavailable

MAX_WORDS = 500
"""So many characters of what the engine says are kept."""

MISREAD = (ValueError, KeyError, TypeError, AttributeError)
"""What reading an answer ends in that is none of an engine."""

T = TypeVar("T")


@dataclass(frozen=True)
class Endpoint:
    """An engine's address, and how many seconds an answer may take."""

    host: str
    seconds: float

    def ask(self, call: Callable[[], T]) -> T:
        """Make a call.

        Raises:
            EngineUnavailable: nobody answers, not in time, or with a 5xx or 429.
            ContainerError: the engine refuses, may not be used, or is none.
        """
        try:
            return self.ask_for_status(call)
        except APIError as error:
            raise refusal(error) from None

    def ask_for_status(self, call: Callable[[], T]) -> T:
        """Make a call; an answer with the status of an error is raised as the SDK has it.

        Raises:
            APIError: such an answer.
            EngineUnavailable: nobody answers, or not in time.
            ContainerError: the engine may not be used, or is none.
        """
        try:
            return call()
        except APIError:
            raise
        except (DockerException, RequestException, OSError, *MISREAD) as error:
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
        if isinstance(error, (DockerException, *MISREAD)):
            return ContainerError(f"{engine} is none: {type(error).__name__}: {_line(error)}")
        if isinstance(root, OSError):
            return EngineUnavailable(f"{engine} cannot be reached: {root.strerror or _line(root)}")
        return EngineUnavailable(f"{engine} broke the connection off: {_line(root)}")


def refusal(error: APIError) -> ContainerError:
    """Turn an answer with the status of an error into ours, in the engine's own words."""
    status = error.status_code or 0
    words = " ".join(str(error.explanation or "without a reason").split())[:MAX_WORDS]
    text = f"the container engine answered {status}: {words}"
    passes = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
    return EngineUnavailable(text) if passes else ContainerError(text)


def _root(error: BaseException) -> BaseException:
    """Return the error that others were made of, whichever way they carry it."""
    inner = next((part for part in error.args if isinstance(part, BaseException)), None)
    reason = getattr(error, "reason", None)
    if inner is None and isinstance(reason, BaseException):
        inner = reason
    found = inner or error.__cause__
    return _root(found) if found is not None else error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:MAX_WORDS]
