"""SQL that is compiled once a process instead of once an engine: tests make thousands of engines.

SQLAlchemy keeps compiled statements by engine, and looks them up by dialect. Here all engines share
what they compile, and dialects are equal when servers have told them the same: version, settings,
schema. SQL is compiled anew for a server that is set otherwise, as some tests set theirs.
"""

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import Connection
from sqlalchemy.util import LRUCache

STATEMENTS = 4_000

_compiled: LRUCache[Any, Any] = LRUCache(STATEMENTS)


class SharingDialect(PGDialect_psycopg):
    """Is equal to others that compile the same SQL, once it is connected."""

    supports_statement_cache = True
    _told: tuple[object, ...] | None = None

    def initialize(self, connection: Connection) -> None:
        """Learn about the server; be equal to those that have learnt the same."""
        super().initialize(connection)  # type: ignore[no-untyped-call]
        self._told = tuple(
            (name, value)
            for name, value in sorted(vars(self).items())
            if value is None or isinstance(value, (bool, int, str, tuple))
        )

    def __eq__(self, other: object) -> bool:
        """Compare what the servers have told."""
        if self is other:
            return True
        return (
            isinstance(other, SharingDialect)
            and self._told is not None
            and self._told == other._told
        )

    def __hash__(self) -> int:
        """Differ until it is connected."""
        return hash(self._told) if self._told is not None else id(self)

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        """Let a new engine use what others have compiled."""
        super().engine_created(engine)
        engine.update_execution_options(compiled_cache=_compiled)


def share_compiled_statements() -> None:
    """Do so from now on, in this process."""
    registry.register("postgresql.psycopg", __name__, SharingDialect.__name__)
