"""The database's health, as far as deleting could harm it: three signals (SPEC 2.4).

Each signal is normal, a reason to slow down, a reason to stop for now, or not available to this
role. Every role may read them, except the lag of standbys, which needs
`GRANT pg_read_all_stats TO validibot_maintenance`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, Engine, text

from maintenance.database import transaction
from maintenance.errors import DatabaseError, TransientDatabaseError

SLOW_LAG_SECONDS = 10.0
"""Readers of a standby with this replay lag see old data."""
STOP_LAG_SECONDS = 60.0
"""Only the flush lag stops a run: data that a standby has not flushed would be lost with the
primary, while replay may be delayed on purpose (recovery_min_apply_delay)."""

SLOW_WAITERS = 5
STOP_WAITERS = 20
"""Sessions that wait for a lock on a table or row. Advisory locks do not count: they belong to the
application."""


class HealthLevel(StrEnum):
    """What a signal calls for."""

    NORMAL = "normal"
    SLOW_DOWN = "slow down"
    STOP = "stop"
    NOT_AVAILABLE = "not available"


@dataclass(frozen=True)
class Signal:
    """The result of one check, with the detail that the report shows."""

    name: str
    level: HealthLevel
    detail: str = ""

    def __str__(self) -> str:
        """Return the signal as the report shows it."""
        return f"{self.name}: {self.level}" + (f" ({self.detail})" if self.detail else "")


LAG = text(
    "SELECT count(*) FILTER (WHERE state IS NULL) AS hidden,"
    " extract(epoch FROM max(replay_lag))::float AS replay,"
    " extract(epoch FROM max(flush_lag))::float AS flush FROM pg_stat_replication"
)

WAITERS = text(
    "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND locktype <> 'advisory'"
)

# Every role may read pg_locks, but not what an autovacuum worker does. A vacuum of a table older
# than autovacuum_freeze_max_age prevents wraparound, whatever started it.
WRAPAROUND = text(
    "SELECT age(c.relfrozenxid) > coalesce((SELECT option_value::bigint"
    "  FROM pg_options_to_table(c.reloptions) WHERE option_name = 'autovacuum_freeze_max_age'),"
    "  current_setting('autovacuum_freeze_max_age')::bigint)"
    " AND EXISTS (SELECT 1 FROM pg_locks l WHERE l.relation = c.oid AND l.granted"
    "  AND l.mode = 'ShareUpdateExclusiveLock'"
    "  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    " FROM pg_class c WHERE c.oid = to_regclass(:table)"
)


def replication_lag(connection: Connection, _table: str) -> Signal:
    """Return how far standbys are behind."""
    found = connection.execute(LAG).one()
    return judge_lag(found.hidden, found.replay, found.flush)


def judge_lag(hidden: int, replay: float | None, flush: float | None) -> Signal:
    """Judge the lag in seconds; `hidden` is the number of standbys that this role cannot see."""
    name = "replication lag"
    if hidden:
        return Signal(name, HealthLevel.NOT_AVAILABLE, "needs pg_read_all_stats")
    if (flush or 0) >= STOP_LAG_SECONDS:
        return Signal(name, HealthLevel.STOP, f"flush lag of a standby is {flush:.0f} s")
    if (replay or 0) >= SLOW_LAG_SECONDS:
        return Signal(name, HealthLevel.SLOW_DOWN, f"replay lag of a standby is {replay:.0f} s")
    return Signal(name, HealthLevel.NORMAL)


def lock_waits(connection: Connection, _table: str) -> Signal:
    """Return whether many sessions wait for locks."""
    waiting: int = connection.execute(WAITERS).scalar_one()
    name = "lock waits"
    detail = f"{waiting} sessions wait for a lock"
    if waiting >= STOP_WAITERS:
        return Signal(name, HealthLevel.STOP, detail)
    if waiting >= SLOW_WAITERS:
        return Signal(name, HealthLevel.SLOW_DOWN, detail)
    return Signal(name, HealthLevel.NORMAL)


def wraparound_vacuum(connection: Connection, table: str) -> Signal:
    """Return whether the table is being vacuumed to prevent wraparound."""
    name = "wraparound vacuum"
    if connection.execute(WRAPAROUND, {"table": table}).scalar_one_or_none():
        return Signal(name, HealthLevel.STOP, f"{table} is being vacuumed to prevent wraparound")
    return Signal(name, HealthLevel.NORMAL)


HealthCheck = Callable[[Connection, str], Signal]

HEALTH_CHECKS: dict[str, HealthCheck] = {
    "replication lag": replication_lag,
    "lock waits": lock_waits,
    "wraparound vacuum": wraparound_vacuum,
}


def check_health(engine: Engine, table: str) -> list[Signal]:
    """Return all signals; one whose query the database refuses is not available.

    Raises:
        TransientDatabaseError: the database did not answer.
    """
    return [_signal(engine, table, name, check) for name, check in HEALTH_CHECKS.items()]


def worst(signals: list[Signal]) -> HealthLevel:
    """Return what all signals together call for."""
    levels = {signal.level for signal in signals}
    return next(
        (level for level in (HealthLevel.STOP, HealthLevel.SLOW_DOWN) if level in levels),
        HealthLevel.NORMAL,
    )


def _signal(engine: Engine, table: str, name: str, check: HealthCheck) -> Signal:
    try:
        with transaction(engine, read_only=True) as connection:
            return check(connection, table)
    except TransientDatabaseError:
        raise
    except DatabaseError as error:
        return Signal(name, HealthLevel.NOT_AVAILABLE, str(error))
