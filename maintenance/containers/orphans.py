"""Which containers are orphans (SPEC 7): by their labels, and by what became of their runs.

Pure functions of what the engine and the database have told; nothing is asked here.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from maintenance.containers.labels import STARTED_AT, TIMEOUT_SECONDS
from maintenance.containers.managed import ManagedContainer
from maintenance.schema.vocabulary import TERMINAL_RUN_STATUSES, RunStatus

MAX_CLOCK_SKEW = timedelta(minutes=5)
"""A start that lies further in the future than clocks may differ cannot be true."""

MAX_WARNINGS = 15
"""So many labels that cannot be read are listed."""

MAX_TIMEOUT_SECONDS = 365 * 86_400
NUMBER = re.compile(r"[0-9]{1,10}(\.[0-9]{1,10})?")


@dataclass(frozen=True)
class RunEnd:
    """Where a run stands in the database, and since when it has ended."""

    status: str
    ended_at: datetime | None


Runs = Mapping[UUID, RunEnd]


@dataclass(frozen=True)
class Moments:
    """What ages are measured by.

    Attributes:
        as_of: the moment that a run works up to.
        now: the clock's time, by which a start in the future is known.
        grace: how much longer than allowed a container may last.
        default_timeout: for containers that do not say how long they may take.
    """

    as_of: datetime
    now: datetime
    grace: timedelta
    default_timeout: timedelta


@dataclass(frozen=True)
class Lifetime:
    """When a container started and how long it may take; and labels that could not be read."""

    started: datetime
    timeout: timedelta
    unreadable: tuple[str, ...] = ()


@dataclass
class Selection:
    """The orphans among some containers, oldest first; and what is odd about any of them."""

    orphans: list[ManagedContainer] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def lifetime(container: ManagedContainer, moments: Moments) -> Lifetime:
    """Read a container's labels; each that cannot be read is replaced by itself.

    A start falls back to the engine's own creation time, a timeout to the default one. A missing
    timeout is nothing odd.
    """
    unreadable = []
    started, fault = _start(container.labels.get(STARTED_AT), moments.now)
    if started is None:
        unreadable.append(f"{STARTED_AT} {fault}")
        started = container.created
    timeout, fault = _timeout(container.labels.get(TIMEOUT_SECONDS), moments.default_timeout)
    if timeout is None:
        unreadable.append(f"{TIMEOUT_SECONDS} {fault}")
        timeout = moments.default_timeout
    return Lifetime(started, timeout, tuple(unreadable))


def outlived_its_timeout(life: Lifetime, moments: Moments) -> bool:
    """Return whether a container is older than its timeout and the grace period; equal stays."""
    return moments.as_of - life.started > life.timeout + moments.grace


def outlived_its_run(run: RunEnd | None, moments: Moments) -> bool:
    """Return whether a container's run has ended for longer than the grace period; equal stays."""
    if run is None or run.status not in TERMINAL_RUN_STATUSES or run.ended_at is None:
        return False
    return moments.as_of - run.ended_at > moments.grace


def select_orphans(
    containers: Iterable[ManagedContainer], runs: Runs, moments: Moments
) -> Selection:
    """Return the orphans: those that outlived their timeout, or their run."""
    selection = Selection()
    for container in sorted(containers, key=_oldest_first):
        life = lifetime(container, moments)
        selection.warnings += [f"{container.item}: {one}" for one in life.unreadable]
        if outlived_its_timeout(life, moments) or outlived_its_run(_run(container, runs), moments):
            selection.orphans.append(container)
    more = len(selection.warnings) - MAX_WARNINGS
    if more > 0:
        selection.warnings[MAX_WARNINGS:] = [f"{more:,} more labels that cannot be read"]
    return selection


def select_all(
    containers: Iterable[ManagedContainer], runs: Runs, *, force: bool
) -> list[ManagedContainer]:
    """Return every container, but for those whose run is RUNNING unless that is forced."""
    return [
        container
        for container in sorted(containers, key=_oldest_first)
        if force or not in_use(container, runs)
    ]


def in_use(container: ManagedContainer, runs: Runs) -> bool:
    """Return whether a container's run is RUNNING."""
    run = _run(container, runs)
    return run is not None and run.status == RunStatus.RUNNING


def _run(container: ManagedContainer, runs: Runs) -> RunEnd | None:
    return runs.get(container.run_id) if container.run_id else None


def _oldest_first(container: ManagedContainer) -> tuple[datetime, str]:
    return container.created, container.id


def _start(label: str | None, now: datetime) -> tuple[datetime | None, str]:
    """Return the time that a label tells, or what is wrong with it."""
    if label is None:
        return None, "is missing"
    try:
        started = datetime.fromisoformat(label.strip())
    except ValueError:
        return None, "is not a time"
    if started.tzinfo is None:
        return None, "has no zone"
    if started - now > MAX_CLOCK_SKEW:
        return None, "lies in the future"
    return started, ""


def _timeout(label: str | None, default: timedelta) -> tuple[timedelta | None, str]:
    """Return the seconds that a label tells, or what is wrong with it."""
    if label is None:
        return default, ""
    if not NUMBER.fullmatch(label.strip()):
        return None, "is not a number of seconds"
    seconds = float(label)
    if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        return None, "is out of bounds"
    return timedelta(seconds=seconds), ""
