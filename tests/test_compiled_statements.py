"""Engines share what they have compiled, unless their servers differ."""

from contextlib import ExitStack

from sqlalchemy import URL, create_engine, select
from sqlalchemy.engine.interfaces import Compiled

from maintenance import schema
from maintenance.settings import DRIVER


def test_a_statement_is_compiled_once_for_servers_that_are_set_alike(database_url: URL) -> None:
    url = database_url.set(drivername=DRIVER)
    other = url.update_query_dict({"options": "-c standard_conforming_strings=off"})
    with ExitStack() as stack:

        def compiled(address: URL) -> Compiled | None:
            engine = create_engine(address)
            stack.callback(engine.dispose)
            connection = stack.enter_context(engine.connect())
            return connection.execute(select(schema.sessions)).context.compiled

        first, second, third = compiled(url), compiled(url), compiled(other)
    assert first is not None
    assert first is second
    assert first is not third
