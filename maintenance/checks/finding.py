"""What a preflight finds, and how its checks are carried out: side by side, each on its own.

A check that hangs or breaks is a finding of its own and never hides another one. Nothing that is
found holds a secret: of an unexpected error only its kind is told.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import asdict, dataclass
from enum import StrEnum

from maintenance.errors import MaintenanceError

CHECK_SECONDS = 20.0
"""Longest wait for a check as a whole; what it asks has shorter time-outs of its own."""


class Severity(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One line of the preflight.

    Attributes:
        name: what was looked at.
        level: whether it is well.
        text: what was found.
        action: what to do; empty when there is nothing to be done.
    """

    name: str
    level: Severity
    text: str
    action: str = ""

    def __str__(self) -> str:
        """Write it as one line."""
        return f"{self.level:8} {self.name:38} {'; '.join(filter(None, (self.text, self.action)))}"

    def as_json(self) -> dict[str, str]:
        """Return it as JSON can hold it."""
        return {name: str(value) for name, value in asdict(self).items()}


def ok(name: str, text: str) -> Finding:
    """Return that something is well."""
    return Finding(name, Severity.OK, text)


def warning(name: str, text: str, action: str = "") -> Finding:
    """Return that something deserves a look, while the jobs do their work."""
    return Finding(name, Severity.WARNING, text, action)


def error(name: str, text: str, action: str = "") -> Finding:
    """Return that something keeps jobs from doing their work."""
    return Finding(name, Severity.ERROR, text, action)


def not_checked(names: Sequence[str], because: str) -> list[Finding]:
    """Return for each name that it could not be looked at."""
    return [warning(name, f"not checked: {because}") for name in names]


@dataclass(frozen=True)
class Check:
    """Something to look at, and the names of the findings that it leads to."""

    names: tuple[str, ...]
    look: Callable[[], list[Finding]]


def carry_out(checks: Sequence[Check], seconds: float = CHECK_SECONDS) -> list[Finding]:
    """Carry out checks side by side; return what they found, in their order.

    Each has so many seconds. One that takes longer is left behind in its thread, which does not
    keep the process from ending: a file system that is gone may never answer.
    """
    found: dict[int, list[Finding]] = {}

    def look(number: int, check: Check) -> None:
        found[number] = _look(check)

    threads = [
        threading.Thread(
            target=copy_context().run, args=(look, number, check), name="check", daemon=True
        )
        for number, check in enumerate(checks)
    ]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    findings = []
    for number, check in enumerate(checks):
        late = [error(name, f"no answer within {seconds:g} s") for name in check.names]
        findings += found.get(number, late)
    return findings


def _look(check: Check) -> list[Finding]:
    first, *others = check.names
    try:
        return check.look()
    except MaintenanceError as problem:
        text = " ".join(str(problem).split())
    except Exception as problem:  # noqa: BLE001 - whatever it is, the other checks go on
        text = f"unexpected {type(problem).__name__}"
    return [error(first, text), *not_checked(others, f"{first} failed")]
