"""A test that starts a Prefect server or a browser must be marked, or `make test-fast` gets slow.

The marker is set for the tests that use a fixture of a shared server. Those that start programs
themselves have to name it; when one does not, the start of the program is refused.
"""

import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import NAMES

STARTED = "subprocess.Popen"
DRIVER = "playwright"
"""A folder of the program that starts browsers."""


class Unmarked(Exception):
    """A test starts a program that it is not marked for."""


def marker_for(command: Sequence[str]) -> str | None:
    """Return the marker of the tests that may run a command; None when any test may."""
    if "--help" in command:
        return None
    pairs = list(pairwise(command))
    if ("server", "start") in pairs or ("-m", "demo") in pairs:
        return "server"
    if any(word.startswith("prefect.server.") for word in command):
        return "server"  # the temporary one that Prefect starts by itself
    if command and (Path(command[0]).name in NAMES or DRIVER in Path(command[0]).parts):
        return "browser"
    return None


class Guard:
    """Refuses what the test that is running is not marked for."""

    def __init__(self) -> None:
        """Install it in this process, for good."""
        self._test: pytest.Item | None = None
        sys.addaudithook(self._audit)

    def watch(self, test: pytest.Item | None) -> None:
        """Say which test is running."""
        self._test = test

    def _audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name != STARTED or self._test is None:
            return
        words = arguments[1]
        command = [words] if isinstance(words, (str, bytes, os.PathLike)) else list(words)
        needed = marker_for([os.fsdecode(word) for word in command])
        if needed and self._test.get_closest_marker(needed) is None:
            raise Unmarked(f"{self._test.nodeid} starts {command}: mark it with `{needed}`")
