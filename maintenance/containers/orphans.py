"""Which containers are orphans (SPEC 7): by their labels, and by the status of their runs.

Pure functions of data from the container engine and the database.
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
"""A start further in the future is a wrong label, not a difference between clocks."""

MAX_WARNINGS = 15
"""Unreadable labels that are listed; further ones are counted."""

MAX_TIMEOUT_SECONDS = 365 * 86_400
NUMBER = re.compile(r"[0-9]{1,10}(\.[0-9]{1,10})?")


@dataclass(frozen=True)
class RunEnd:
    """A run's status in the database, and when it ended."""

    status: str
    ended_at: datetime | None


Runs = Mapping[UUID, RunEnd]


@dataclass(frozen=True)
class Moments:
    """The times that ages are compared with.

    Attributes:
        as_of: the cutoff.
        now: the clock's time, which shows whether a start is in the future.
        grace: the grace period added to each time-out.
        default_timeout: the time-out of containers without a label.
    """

    as_of: datetime
    now: datetime
    grace: timedelta
    default_timeout: timedelta


@dataclass(frozen=True)
class Lifetime:
    """A container's start and time-out, and which of its labels could not be read."""

    started: datetime
    timeout: timedelta
    unreadable: tuple[str, ...] = ()


@dataclass
class Selection:
    """The orphans, oldest first, and warnings about unreadable labels."""

    orphans: list[ManagedContainer] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def lifetime(container: ManagedContainer, moments: Moments) -> Lifetime:
    """Read a container's labels; each unreadable one falls back on its own.

    A start falls back to the engine's creation time, a time-out to the default. A time-out may
    be missing.
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
    """Return whether a container is older than time-out plus grace period; equal stays."""
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
    """Return every container, except those of RUNNING runs unless `force` is set."""
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
    """Return the time of a label, or what is wrong with it."""
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
    """Return the time-out of a label, or what is wrong with it."""
    if label is None:
        return default, ""
    if not NUMBER.fullmatch(label.strip()):
        return None, "is not a number of seconds"
    seconds = float(label)
    if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        return None, "is out of bounds"
    return timedelta(seconds=seconds), ""
