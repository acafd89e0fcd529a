"""A lost guard stops the job's work within a second (SPEC 2.8)."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import Engine, text

from demo.processes import wait_until
from maintenance.database import engine_for, transaction
from maintenance.errors import GuardLost
from maintenance.guard import Guard, check_held, guard
from maintenance.settings import Settings

JOB = "clear-sessions"
OTHER = "cleanup-idempotency-keys"
RUN = uuid.UUID(int=7)
SECONDS = 20


@contextmanager
def lost(settings: Settings, database: Engine) -> Iterator[Guard]:
    """A guard whose session the server has ended."""
    with guard(settings, JOB, RUN) as held:
        with database.connect() as connection:
            statement = text("SELECT pg_terminate_backend(:pid, 10000)")
            assert connection.execute(statement, {"pid": held.pid}).scalar_one()
        yield held


def lost_by_now(job: str) -> bool:
    try:
        check_held(job)
    except GuardLost:
        return True
    return False


def test_check_held_does_nothing_without_a_guard_and_while_it_is_held(
    environment: Settings,
) -> None:
    check_held(JOB)
    with guard(environment, JOB, RUN):
        for _ in range(1_000):
            check_held(JOB)
        with guard(environment, JOB, None) as second:
            assert not second.acquired
            check_held(JOB)
    check_held(JOB)


def test_2_8_a_lost_guard_is_found_without_anybody_asking_it(
    environment: Settings, database: Engine
) -> None:
    with lost(environment, database):
        wait_until(lambda: lost_by_now(JOB), SECONDS, "the loss", [])
        check_held(OTHER)
    check_held(JOB)


def test_2_8_a_long_statement_is_cancelled_when_the_guard_is_lost(
    environment: Settings, database: Engine
) -> None:
    address = database.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def work(pid: int) -> None:
        with (
            psycopg.connect(address, autocommit=True) as beside,
            transaction(engine_for(environment, JOB)) as connection,
        ):
            beside.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
            connection.execute(text("SELECT pg_sleep(600)"))

    lost_by = pytest.raises(GuardLost, match=r"is lost: .*terminating connection")
    with guard(environment, JOB, RUN) as held, lost_by:
        work(held.pid)


def test_2_8_no_transaction_of_the_job_begins_until_the_guard_is_taken_again(
    environment: Settings, database: Engine
) -> None:
    with lost(environment, database):
        wait_until(lambda: stopped(environment), SECONDS, "the stop", [])
        with transaction(engine_for(environment, OTHER)) as connection:
            assert connection.execute(text("SELECT 1")).scalar_one() == 1
    with guard(environment, JOB, RUN), transaction(engine_for(environment, JOB)) as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1


def stopped(settings: Settings) -> bool:
    try:
        with transaction(engine_for(settings, JOB)) as connection:
            connection.execute(text("SELECT 1"))
    except GuardLost:
        return True
    return False
