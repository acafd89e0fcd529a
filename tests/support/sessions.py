"""Tables of sessions that are large enough for a block scan."""

from datetime import datetime

from sqlalchemy import Engine, text

from tests.support.validibot import NOW

FILL = text(
    "INSERT INTO django_session"
    " SELECT 'row' || number, repeat('x', 300),"
    "  :now + make_interval(secs => number - :due)"
    " FROM generate_series(0, :rows - 1) AS number"
    " ORDER BY CASE WHEN :shuffled THEN hashint8(number) ELSE number END"
)

PARTITIONED = (
    "DROP TABLE django_session",
    (
        "CREATE TABLE django_session (session_key varchar(40) NOT NULL, session_data text NOT NULL,"
        " expire_date timestamptz NOT NULL) PARTITION BY RANGE (expire_date)"
    ),
    "CREATE INDEX ON django_session (expire_date)",
    (
        "CREATE TABLE django_session_old PARTITION OF django_session FOR VALUES FROM (MINVALUE)"
        f" TO ('{NOW}')"
    ),
    (
        "CREATE TABLE django_session_new PARTITION OF django_session FOR VALUES FROM"
        f" ('{NOW}') TO (MAXVALUE)"
    ),
)
"""Statements that replace the table by one that is partitioned by the time of expiry."""


def fill_sessions(engine: Engine, *, rows: int, due: int, shuffled: bool) -> set[str]:
    """Add sessions a second apart, `due` of them expired before NOW; return the keys that stay.

    The first one that stays expires exactly at NOW. The table is analyzed, as autovacuum does it.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        values = {"rows": rows, "due": due, "now": NOW, "shuffled": shuffled}
        connection.execute(FILL, values)
        connection.execute(text("VACUUM ANALYZE django_session"))
    return {f"row{number}" for number in range(due, rows)}


def session_keys(engine: Engine) -> set[str]:
    """The keys of all sessions that are there."""
    with engine.connect() as connection:
        return set(connection.scalars(text("SELECT session_key FROM django_session")))


def block_of(engine: Engine, key: str) -> int:
    """The heap block that a session lies in."""
    query = text("SELECT (ctid::text::point)[0]::bigint FROM django_session WHERE session_key = :k")
    with engine.connect() as connection:
        block: int = connection.execute(query, {"k": key}).scalar_one()
    return block


def change(engine: Engine, key: str, *, expires: datetime | None = None) -> None:
    """Save a session as the application does, with a new expiry when one is given."""
    query = text(
        "UPDATE django_session SET session_data = reverse(session_data) || 'y',"
        " expire_date = coalesce(:expires, expire_date) WHERE session_key = :key"
    )
    with engine.begin() as connection:
        connection.execute(query, {"key": key, "expires": expires})
