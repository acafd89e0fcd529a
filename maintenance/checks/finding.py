"""The findings of a preflight, and how its checks run: in parallel, independent of each other.

A check that hangs or fails is a finding of its own and never hides another one. No finding holds a
secret: of an unexpected error only the type is reported.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import asdict, dataclass
from enum import StrEnum

from maintenance.errors import MaintenanceError
from maintenance.outside_text import one_line

CHECK_SECONDS = 20.0
"""Longest wait for a whole check; its requests have shorter time-outs of their own."""


class Severity(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One line of the preflight.

    Attributes:
        name: what was checked.
        level: how bad it is.
        text: what was found.
        action: what to do; empty when nothing needs to be done.
    """

    name: str
    level: Severity
    text: str
    action: str = ""

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.level:8} {self.name:38} {'; '.join(filter(None, (self.text, self.action)))}"

    def as_json(self) -> dict[str, str]:
        """Return it for JSON."""
        return {name: str(value) for name, value in asdict(self).items()}


def ok(name: str, text: str) -> Finding:
    """Return a finding of something that is as it should be."""
    return Finding(name, Severity.OK, text)


def warning(name: str, text: str, action: str = "") -> Finding:
    """Return a finding of something to correct, although the jobs work."""
    return Finding(name, Severity.WARNING, text, action)


def error(name: str, text: str, action: str = "") -> Finding:
    """Return a finding of something that keeps jobs from working."""
    return Finding(name, Severity.ERROR, text, action)


def not_checked(names: Sequence[str], because: str) -> list[Finding]:
    """Return a warning for each name that could not be checked."""
    return [warning(name, f"not checked: {because}") for name in names]


@dataclass(frozen=True)
class Check:
    """A check, and the names of its findings."""

    names: tuple[str, ...]
    run: Callable[[], list[Finding]]


def carry_out(checks: Sequence[Check], seconds: float = CHECK_SECONDS) -> list[Finding]:
    """Run checks in parallel, all within `seconds`; return their findings in the order of checks.

    A check that takes longer, such as one of a file system that never answers, is abandoned in a
    daemon thread, which does not keep the process from ending.
    """
    found: dict[int, list[Finding]] = {}

    def run(number: int, check: Check) -> None:
        found[number] = _findings(check)

    threads = [
        threading.Thread(
            target=copy_context().run, args=(run, number, check), name="check", daemon=True
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


def _findings(check: Check) -> list[Finding]:
    first, *others = check.names
    try:
        return check.run()
    except MaintenanceError as problem:
        text = one_line(str(problem))
    except Exception as problem:  # noqa: BLE001 - other checks must still run
        text = f"unexpected {type(problem).__name__}"
    return [error(first, text), *not_checked(others, f"{first} failed")]
