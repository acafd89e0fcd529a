"""Checks stand side by side: none hides or holds up another one."""

import threading
import time

from maintenance.checks.finding import Check, Finding, Severity, carry_out, ok
from maintenance.errors import StorageError

PATIENCE = 0.3


def test_a_check_that_breaks_is_an_error_of_its_own_and_tells_no_secret() -> None:
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
    assert [(one.name, str(one.level), one.text) for one in findings] == [
        ("first", "error", "the volume is not mounted"),
        ("second", "warning", "not checked: first failed"),
        ("third", "error", "unexpected RuntimeError"),
        ("fourth", "ok", "fine"),
    ]


def test_a_check_that_hangs_is_an_error_and_the_others_are_told() -> None:
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
    assert [(one.name, one.level) for one in findings] == [
        ("one", Severity.ERROR),
        ("two", Severity.ERROR),
        ("three", Severity.OK),
    ]
    assert findings[0].text == "no answer within 0.3 s"


def test_a_finding_is_one_line() -> None:
    line = str(Finding("database", Severity.ERROR, "is away", "start it"))
    assert line.split() == ["error", "database", "is", "away;", "start", "it"]
