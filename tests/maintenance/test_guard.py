import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import psycopg
import pytest
from sqlalchemy import Engine, text

from demo.embedded import EmbeddedServer
from maintenance.errors import GuardLost, TransientDatabaseError
from maintenance.guard import LOCK_SPACE, Guard, guard
from maintenance.settings import Settings, load_settings

JOB = "purge-expired-submissions"
FIRST = uuid.UUID("11111111-2222-4333-8444-555555555555")
SECOND = uuid.UUID("99999999-8888-4777-8666-555555555555")

# Acquires the guard, prints its database session, and waits to be killed.
HOLDER = """
import sys, uuid
from maintenance.guard import guard
from maintenance.settings import load_settings
from sqlalchemy import text

with guard(load_settings(), sys.argv[1], uuid.UUID(sys.argv[2])) as held:
    assert held.acquired
    print(held.connection.execute(text("SELECT pg_backend_pid()")).scalar_one(), flush=True)
    sys.stdin.read()
"""


def pid_of(held: Guard) -> int:
    found: int = held.connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return found


def terminate(database: Engine, pid: int) -> None:
    """End a database session and wait until it is gone."""
    with database.connect() as connection:
        statement = text("SELECT pg_terminate_backend(:pid, 10000)")
        assert connection.execute(statement, {"pid": pid}).scalar_one()


def wait_until_free(database: Engine, job: str) -> None:
    """Wait for the job's lock as PostgreSQL lets one wait, and give it back."""
    with database.connect() as connection, connection.begin():
        connection.execute(text("SET LOCAL lock_timeout = '20s'"))
        key = crc32(job.encode())
        signed = key - 2**32 if key >= 2**31 else key
        connection.execute(
            text("SELECT pg_advisory_xact_lock(:space, :key)"),
            {"space": LOCK_SPACE, "key": signed},
        )


def refused(settings: Settings, job: str = JOB) -> Guard:
    with guard(settings, job, SECOND) as held:
        assert not held.acquired
        return held


def acquires(settings: Settings, job: str = JOB) -> bool:
    with guard(settings, job, SECOND) as held:
        return held.acquired


@contextmanager
def holder_process(job: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, job, str(FIRST)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_a_second_run_is_refused_and_learns_which_run_holds_the_job(
    environment: Settings,
) -> None:
    with guard(environment, JOB, FIRST) as first:
        assert first.acquired
        holder = refused(environment).holder
        assert holder is not None
        assert (holder.run_id, holder.pid) == (FIRST, pid_of(first))
        assert holder.since is not None
        assert str(holder) == (
            f"flow run {FIRST} holds the job (database session {pid_of(first)}"
            f" since {holder.since:%Y-%m-%d %H:%M:%S} UTC)"
        )
        first.check()


def test_a_holder_without_a_flow_run_is_another_run(environment: Settings) -> None:
    with guard(environment, JOB, None) as first:
        holder = refused(environment).holder
        assert holder is not None
        assert holder.run_id is None
        assert str(holder).startswith(
            f"another run holds the job (database session {pid_of(first)}"
        )


def test_the_guard_is_free_after_its_block(environment: Settings) -> None:
    with guard(environment, JOB, FIRST):
        assert not acquires(environment)
    assert acquires(environment)


def test_the_guard_is_free_after_an_error_in_its_block(environment: Settings) -> None:
    with pytest.raises(KeyError), guard(environment, JOB, FIRST):
        raise KeyError
    assert acquires(environment)


def test_a_refused_run_does_not_release_the_guard(environment: Settings) -> None:
    with guard(environment, JOB, FIRST):
        refused(environment)
        assert not acquires(environment)


@pytest.mark.parametrize(
    "job",
    [
        "purge-expired-outputs",
        "process-purge-retries",
        "cleanup-stuck-runs",
        "cleanup-orphaned-containers",
        "cleanup-idempotency-keys",
        "cleanup-callback-receipts",
        "clear-sessions",
    ],
)
def test_every_job_has_a_guard_of_its_own(environment: Settings, job: str) -> None:
    with guard(environment, JOB, FIRST):
        assert acquires(environment, job)
        with guard(environment, job, FIRST):
            assert not acquires(environment, job)


def test_a_database_of_the_same_server_has_guards_of_its_own(
    environment: Settings, server: EmbeddedServer
) -> None:
    url = server.create_database("guard_neighbour").render_as_string(hide_password=False)
    neighbour = load_settings(DATABASE_URL=url)
    with guard(neighbour, JOB, SECOND) as there:
        with guard(environment, JOB, FIRST) as here:
            assert here.acquired
            holder = refused(environment).holder
            assert holder is not None
            assert (holder.run_id, holder.pid) == (FIRST, pid_of(here))
        assert there.acquired
        assert not acquires(neighbour)
        assert acquires(environment)
    server.drop_database("guard_neighbour")


def test_the_guard_is_lost_and_free_when_its_session_is_terminated(
    environment: Settings, database: Engine
) -> None:
    with guard(environment, JOB, FIRST) as held:
        held.check()
        terminate(database, pid_of(held))
        assert acquires(environment)
        with pytest.raises(GuardLost, match=f"guards {JOB} is lost: ") as caught:
            held.check()
        assert "terminating connection" in str(caught.value)
        # And again: a lost guard never comes back by itself.
        with pytest.raises(GuardLost, match="terminating connection"):
            held.check()


def test_the_guard_is_free_after_its_holder_was_killed(
    environment: Settings, database: Engine
) -> None:
    with holder_process(JOB) as (process, pid):
        holder = refused(environment).holder
        assert holder is not None
        assert (holder.run_id, holder.pid) == (FIRST, pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_until_free(database, JOB)
        assert acquires(environment)


def test_the_guards_session_is_named_after_job_and_run_and_never_times_out_idle(
    environment: Settings, database: Engine
) -> None:
    name = str(database.url.database)
    with database.begin() as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET idle_session_timeout = '1h'"))
    with guard(environment, JOB, FIRST) as held:
        shown = {
            parameter: held.connection.execute(text(f"SHOW {parameter}")).scalar_one()
            for parameter in ("application_name", "idle_session_timeout", "statement_timeout")
        }
    assert shown == {
        "application_name": f"{JOB}/{FIRST.hex}",
        "idle_session_timeout": "0",
        "statement_timeout": "30s",
    }


def test_the_guards_session_keeps_no_transaction_open(
    environment: Settings, database: Engine
) -> None:
    with guard(environment, JOB, FIRST) as held:
        pid = pid_of(held)
        held.check()
        with database.connect() as connection:
            query = text("SELECT state FROM pg_stat_activity WHERE pid = :pid")
            assert connection.execute(query, {"pid": pid}).scalar_one() == "idle"


def test_a_lock_of_the_application_with_another_key_is_not_in_the_way(
    environment: Settings, database: Engine
) -> None:
    key = crc32(JOB.encode())
    with database.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
        connection.execute(text("SELECT pg_advisory_lock(1, 1)"))
        assert acquires(environment)


def test_a_job_name_that_would_be_cut_is_refused(environment: Settings) -> None:
    with guard(environment, "x" * 30, FIRST) as held:
        assert held.acquired
    with (
        pytest.raises(ValueError, match="too long for the guard"),
        guard(environment, "x" * 31, FIRST),
    ):
        pytest.fail("acquired")


def test_an_unreachable_database_is_one_of_our_errors(environment: Settings) -> None:
    url = "postgresql://alice:s3cret@/v?host=/nowhere"
    with (
        pytest.raises(TransientDatabaseError) as caught,
        guard(load_settings(DATABASE_URL=url), JOB, FIRST),
    ):
        pytest.fail("acquired")
    assert "s3cret" not in str(caught.value)


def test_the_holder_is_named_to_a_role_that_may_not_see_its_session(
    environment: Settings, server: EmbeddedServer
) -> None:
    with psycopg.connect(
        server.url("postgres").render_as_string(hide_password=False), autocommit=True
    ) as admin:
        admin.execute("CREATE ROLE onlooker LOGIN")
        url = environment.url.set(drivername="postgresql", username="onlooker")
        onlooker = load_settings(DATABASE_URL=url.render_as_string(hide_password=False))
        with guard(environment, JOB, FIRST) as held:
            holder = refused(onlooker).holder
            assert holder is not None
            assert (holder.run_id, holder.pid, holder.since) == (FIRST, pid_of(held), None)
        admin.execute("DROP ROLE onlooker")
