"""Checks run in parallel: none hides or delays another one."""

import threading
import time

from maintenance.checks.finding import Check, Finding, Severity, carry_out, ok
from maintenance.errors import StorageError

PATIENCE = 0.3


def test_a_check_that_fails_is_an_error_of_its_own_without_secrets() -> None:
    def known() -> list[Finding]:
        raise StorageError("the volume\nis not mounted")

    def unknown() -> list[Finding]:
        raise RuntimeError("password=hidden")

    findings = carry_out(
        [
            Check(("first", "second"), known),
            Check(("third",), unknown),
            Check(("fourth",), lambda: [ok("fourth", "fine")]),
        ]
    )
    assert [(finding.name, str(finding.level), finding.text) for finding in findings] == [
        ("first", "error", "the volume is not mounted"),
        ("second", "warning", "not checked: first failed"),
        ("third", "error", "unexpected RuntimeError"),
        ("fourth", "ok", "fine"),
    ]


def test_a_check_that_hangs_is_an_error_and_the_others_are_reported() -> None:
    released = threading.Event()

    def hanging() -> list[Finding]:
        released.wait()
        return []

    started = time.monotonic()
    findings = carry_out(
        [Check(("one", "two"), hanging), Check(("three",), lambda: [ok("three", "fine")])], PATIENCE
    )
    waited = time.monotonic() - started
    released.set()
    assert waited < 10 * PATIENCE
    assert [(finding.name, finding.level) for finding in findings] == [
        ("one", Severity.ERROR),
        ("two", Severity.ERROR),
        ("three", Severity.OK),
    ]
    assert findings[0].text == "no answer within 0.3 s"


def test_a_finding_is_one_line() -> None:
    line = str(Finding("database", Severity.ERROR, "is away", "start it"))
    assert line.split() == ["error", "database", "is", "away;", "start", "it"]
