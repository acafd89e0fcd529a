"""Noticing that the application's database was restored from a backup (SPEC 10.16).

After a restore, rows claim content again whose files were purged after the backup was made. The
database cannot tell. The storage can: it was not restored with the database, and the marker of its
private root remembers the rows that the last runs have stamped. A stamp is never taken back, so a
row that was stamped and is not stamped now has gone back. The rows are looked up by their keys. The
server's identity alone says little: a restore into another server, a migration and a promoted
standby all change it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Column, Connection, Engine, any_, cast, exists, literal, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from maintenance.database import milliseconds, transaction
from maintenance.errors import StatementTimeout
from maintenance.odd_values import OddTime
from maintenance.schema import runs, submissions
from maintenance.storage.adoption import read_marker
from maintenance.storage.marker import Marker
from maintenance.storage.roots import Root

WITNESSES = 10
"""Rows of each kind that are remembered: those with the newest stamps."""

SCAN_SECONDS = 120.0
"""Time-out of the only statement that may read a whole table."""

STAMPS: Mapping[str, tuple[Column[Any], Column[Any]]] = {
    "submission": (submissions.c.id, submissions.c.content_purged_at),
    "run": (runs.c.id, runs.c.output_purged_at),
}
"""For each kind of rows, its key and its stamp."""

IDENTITY_FUNCTIONS = text(
    "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')"
    " AND has_function_privilege('pg_catalog.pg_control_checkpoint()', 'EXECUTE')"
)
IDENTITY = text(
    "SELECT CAST(s.system_identifier AS text), c.timeline_id"
    " FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c"
)

Stamps = Mapping[UUID, datetime | None]
"""The stamps of rows by their keys; None for a row that is not stamped."""

LOCK = text("SELECT pg_advisory_xact_lock(hashtext('validibot-maintenance'), hashtext('marker'))")


@dataclass(frozen=True)
class Server:
    """Which server it is: None for what the role may not ask."""

    system: str | None = None
    timeline: int | None = None


@dataclass(frozen=True)
class Memory:
    """What the last runs saw.

    Attributes:
        server: the server of the database.
        stamps: for each kind of rows, the keys of those with the newest stamps.
    """

    server: Server = field(default_factory=Server)
    stamps: Mapping[str, Mapping[UUID, datetime]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        kinds = {
            kind: {str(key): stamp.isoformat() for key, stamp in found.items()}
            for kind, found in self.stamps.items()
        }
        return {"system": self.server.system, "timeline": self.server.timeline, **kinds}

    @classmethod
    def parse(cls, held: Mapping[str, Any] | None) -> Self | None:
        """Return what these values say; None when they say nothing."""
        if held is None:
            return None
        try:
            server = Server(held["system"], held["timeline"])
            stamps = {
                kind: {UUID(key): datetime.fromisoformat(at) for key, at in held[kind].items()}
                for kind in STAMPS
            }
        except (KeyError, TypeError, ValueError, AttributeError):
            return None
        return cls(server, stamps)


@dataclass(frozen=True)
class Look:
    """What was found.

    Attributes:
        problem: why the database is older than what the last run saw; None when it is not.
        is_new: whether there is something to remember, even if nothing is purged.
    """

    problem: str | None
    is_new: bool


def look_back(engine: Engine, private: Root) -> Look:
    """Compare the database with what the marker of the private root remembers; write nothing.

    Raises:
        StorageError: the marker cannot be read.
        DatabaseError: a statement failed.
    """
    marker = read_marker(private)
    memory = Memory.parse(marker.database if marker else None)
    if memory is None:
        return Look(None, is_new=True)
    try:
        with transaction(engine, read_only=True) as connection:
            server = _server(connection)
            live = {
                kind: _stamps(connection, kind, list(found))
                for kind, found in memory.stamps.items()
            }
            problem = _setback(connection, memory, server, live)
            gone = any(found and not live[kind] for kind, found in memory.stamps.items())
    except StatementTimeout as error:
        unknown = "the rows that were stamped last are gone, and no stamp as new was found in time"
        return Look(f"{unknown}: {error}", is_new=False)
    return Look(problem, is_new=gone or server != memory.server)


def remember(engine: Engine, private: Root, kind: str, ids: Iterable[UUID]) -> None:
    """Add rows that were stamped to what the marker of the private root remembers.

    Rows that the application has deleted meanwhile are forgotten. Runs of other jobs wait. The
    marker is replaced as a whole, and only if it changes.

    Args:
        engine: the database.
        private: the private root.
        kind: of which kind the rows are.
        ids: their keys.

    Raises:
        StorageError: the marker cannot be read or written.
        DatabaseError: a statement failed.
    """
    _renew(engine, private, {kind: list(ids)})


def accept(engine: Engine, private: Root) -> None:
    """Take the database as it is: forget the rows that are not stamped any more.

    Raises:
        StorageError: the marker cannot be read or written.
        DatabaseError: a statement failed.
    """
    _renew(engine, private, {})


def _renew(engine: Engine, private: Root, more: Mapping[str, Sequence[UUID]]) -> None:
    """Remember the newest stamps of the rows that are remembered, and of more rows."""
    with transaction(engine) as connection:
        connection.execute(LOCK)
        marker = read_marker(private)
        if marker is None:
            return
        memory = Memory.parse(marker.database) or Memory()
        stamps = {
            kind: _stamps(connection, kind, [*memory.stamps.get(kind, {}), *more.get(kind, ())])
            for kind in STAMPS
        }
        plain = {kind: _plain(found) for kind, found in stamps.items()}
        new = Memory(_server(connection), _newest(plain)).as_json()
        if marker.database != new:
            content = Marker(marker.application, marker.root, marker.roots, new).content()
            private.store.write_marker(content)


def _setback(
    connection: Connection, memory: Memory, server: Server, live: Mapping[str, Stamps]
) -> str | None:
    """Return why the database is older than the memory of it; `live` holds the stamps of now."""
    before = memory.server
    same = None not in (before.system, server.system) and before.system == server.system
    if same and before.timeline and server.timeline and server.timeline < before.timeline:
        return f"its timeline was {before.timeline} and is {server.timeline} now"
    for kind, remembered in memory.stamps.items():
        now = live[kind]
        for key, stamp in remembered.items():
            if key in now and now[key] is None:
                return f"{kind} {key} was stamped as purged at {stamp} and is not now{_why(same)}"
        if remembered and not now and not _any_as_new(connection, kind, min(remembered.values())):
            newest = max(remembered.values())
            return (
                f"the newest stamp of a {kind} was {newest}, and no {kind} has a stamp as new as"
                f" the last ones that were seen{_why(same)}"
            )
    return None


def _why(same: bool) -> str:
    return "" if same else "; its server may be another one"


def _any_as_new(connection: Connection, kind: str, moment: datetime) -> bool:
    """Return whether any row has a stamp that is not older; no index serves this.

    It is asked only when all rows that are remembered are gone.
    """
    timeout = milliseconds(SCAN_SECONDS)
    connection.execute(text(f"SET LOCAL statement_timeout = {timeout}"))
    connection.execute(text("SET LOCAL max_parallel_workers_per_gather = 0"))
    _, column = STAMPS[kind]
    query = select(exists(literal(1)).where(column >= moment))
    found: bool = connection.execute(query).scalar_one()
    return found


def _stamps(connection: Connection, kind: str, ids: Sequence[UUID]) -> Stamps:
    """Return the stamps of the rows that exist."""
    key, column = STAMPS[kind]
    wanted = any_(cast(literal(list(ids), ARRAY(Uuid)), ARRAY(Uuid)))
    rows = connection.execute(select(key, column).where(key == wanted))
    return {row[0]: row[1] for row in rows}


def _plain(found: Stamps) -> dict[UUID, datetime]:
    """Return the stamps that are times of this calendar."""
    return {key: at for key, at in found.items() if at and not isinstance(at, OddTime)}


def _newest(
    stamps: Mapping[str, Mapping[UUID, datetime]],
) -> dict[str, dict[UUID, datetime]]:
    """Return the WITNESSES newest stamps of each kind, the newest first."""
    return {
        kind: dict(sorted(found.items(), key=lambda one: one[1], reverse=True)[:WITNESSES])
        for kind, found in stamps.items()
    }


def _server(connection: Connection) -> Server:
    if not connection.execute(IDENTITY_FUNCTIONS).scalar_one():
        return Server()
    system, timeline = connection.execute(IDENTITY).one()
    return Server(system, timeline)
