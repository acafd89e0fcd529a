"""Rows that the database refuses to change, in each of the ways in which it can."""

from uuid import UUID

from sqlalchemy import Engine, text

REFUSE = "RAISE EXCEPTION 'not this one'"
HANG = "PERFORM pg_sleep(20)"
"""Longer than the statement time-out of the tests that use it."""


def poison(
    engine: Engine,
    table: str,
    row_id: UUID,
    does: str = REFUSE,
    *,
    on: str = "UPDATE",
    column: str = "id",
    at_commit: bool = False,
) -> None:
    """Let the database do this whenever the row is changed: at once, or at the commit."""
    row = "NEW" if on == "INSERT" else "OLD"
    kind, when = "TRIGGER", f"BEFORE {on}"
    if at_commit:
        kind, when = "CONSTRAINT TRIGGER", f"AFTER {on}"
    deferred = "DEFERRABLE INITIALLY DEFERRED" if at_commit else ""
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$ BEGIN {does}; RETURN {'OLD' if on == 'DELETE' else 'NEW'}; END $$"
            )
        )
        connection.execute(
            text(
                f"CREATE {kind} poison {when} ON {table} {deferred}"
                f" FOR EACH ROW WHEN ({row}.{column} = '{row_id}') EXECUTE FUNCTION poison()"
            )
        )
