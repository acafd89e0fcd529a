"""Which tests need what, and which of them may run side by side.

A marker that follows from a test's fixtures is set here, so that no test can lack it. In a parallel
run every test belongs to a group, and the tests of a group run one after another in one worker
process: by default those of a file, because they share its module's fixtures. Tests with Prefect
servers mostly wait. Those with tight time limits are one group, so that they run one by one, and
the other worker processes use the processors at a lower priority. Those that share servers are
another group. Files that start many servers of their own name groups of their own: in one row, the
tests with servers would take longer than all others.

The option `--dist loadgroup` of pytest-xdist 3.8 does nothing with pytest 9.2, hence a scheduler.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

MARK_OF_FIXTURE = {
    "prefect_server": "server",
    "deployed_server": "server",
    "server_database": "system_postgres",
    "docker_engine": "docker",
}

TIMED = "servers with time limits"
SERVERS = "servers"
CONTAINERS = "containers"
GROUP_OF_MARK = {
    "timing": TIMED,
    "docker": CONTAINERS,
    "compose": CONTAINERS,
    "server": SERVERS,
    "browser": SERVERS,
    "system_postgres": SERVERS,
}
"""The first mark that applies decides.

The clean-up of orphaned containers sees, and removes, the containers of all tests.
"""

LONGEST_FIRST = (
    TIMED,
    SERVERS,
    CONTAINERS,
    "restarts of purge-expired-submissions",
    "restarts of process-purge-retries",
    "crashes of process-purge-retries",
    "crashes of reclaim-residue",
    "servers of the demo",
    "servers that are set up",
    "tests/flows/test_expired_rows_odd.py",
    "tests/flows/test_odd_times_in_purges.py",
    "tests/flows/test_wrong_storage.py",
    "tests/flows/test_refused_rows.py",
    "tests/flows/test_command_line.py",
    "tests/flows/test_restores.py",
    "tests/test_recipe.py",
    "tests/test_commands.py",
    "tests/test_distribution.py",
)
"""Groups that take long start first: at the end, all other workers would wait for them.

The others follow in the order in which they are collected.
"""

NICENESS = {TIMED: 0, SERVERS: 5}
OTHERS = 10
"""The niceness that a worker process has for tests of other groups."""

GROUPS = "groups.json"


def mark(items: Iterable[pytest.Item]) -> None:
    """Mark each test with what its fixtures need."""
    for item in items:
        for fixture, name in MARK_OF_FIXTURE.items():
            if fixture in fixtures_of(item):
                item.add_marker(name)


def fixtures_of(item: pytest.Item) -> list[str]:
    """Return the names of all fixtures that a test uses."""
    found: list[str] = getattr(item, "fixturenames", [])
    return found


def group_of(item: pytest.Item) -> str:
    """Return the group of a test: the one that it names, or the one of what it uses."""
    named = item.get_closest_marker("xdist_group")
    if named is not None:
        return str(named.args[0])
    for name, group in GROUP_OF_MARK.items():
        if item.get_closest_marker(name):
            return group
    return item.nodeid.partition("::")[0]


def arrange(items: list[pytest.Item], folder: Path) -> None:
    """Sort the tests of a worker process by group, and leave a note of the groups in a folder."""
    groups = {item.nodeid: group_of(item) for item in items}
    items.sort(key=lambda item: rank(groups[item.nodeid]))
    # All worker processes write the same.
    note = folder / f"{GROUPS}.{os.getpid()}"
    note.write_text(json.dumps(groups))
    note.replace(folder / GROUPS)


def rank(group: str) -> int:
    """Return the place of a group in the order in which they start."""
    return LONGEST_FIRST.index(group) if group in LONGEST_FIRST else len(LONGEST_FIRST)


def lower_priority(item: pytest.Item) -> None:
    """Let this worker process yield to tests with tighter time limits, and all that it starts.

    Once lowered, the priority stays; groups come in the order of their priorities.
    """
    niceness, now = NICENESS.get(group_of(item), OTHERS), os.nice(0)
    if now < niceness:
        os.nice(niceness - now)


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Gives whole groups to the worker processes, in the order of the tests."""

    def __init__(self, config: pytest.Config, log: Producer, folder: Path) -> None:
        """Start without tests; the worker processes collect them, and leave a note in a folder."""
        super().__init__(config, log)
        config.option.loadscopereorder = False
        self._folder = folder
        self._groups: dict[str, str] = {}

    def _split_scope(self, nodeid: str) -> str:
        """Return the group of a test."""
        if not self._groups:
            self._groups = json.loads((self._folder / GROUPS).read_text())
        return self._groups[nodeid]
