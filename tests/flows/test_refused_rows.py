"""Whatever SQLSTATE a row is refused with, it fails alone; a bound on trying (SPEC 10.7)."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from prefect import Flow
from sqlalchemy import Engine, text

from flows.cleanup_stuck_runs import cleanup_stuck_runs
from flows.clear_sessions import clear_sessions
from flows.process_purge_retries import process_purge_retries
from flows.purge_expired_outputs import purge_expired_outputs
from flows.purge_expired_submissions import purge_expired_submissions
from flows.run import refusals
from maintenance import schema
from maintenance.errors import DatabaseError
from maintenance.report import MAX_FAILURES
from tasks.batching import bisection
from tests.flows.test_poison_rows import due_output, queued, stuck
from tests.support.poison import poison
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

pytestmark = pytest.mark.usefixtures("environment")

ROWS = 9
REFUSED = 150
TRIED_ALONE = 2 * REFUSED - REFUSED // 50
"""How often rows are tried when batches of 50 are halved down to single rows."""
SUBMISSIONS, RUNS = schema.submissions.name, schema.runs.name
Make = Callable[[Validibot], Any]

JOBS: dict[str, tuple[Flow[..., Any], str, Make]] = {
    "submissions": (purge_expired_submissions, SUBMISSIONS, lambda v: v.submission()),
    "outputs": (purge_expired_outputs, RUNS, due_output),
    "queue": (process_purge_retries, SUBMISSIONS, queued),
    "stuck": (cleanup_stuck_runs, RUNS, stuck),
    "sessions": (clear_sessions, schema.sessions.name, lambda v: v.session(NOW - DAY)),
}
REFUSALS = {
    "unknown class": "RAISE EXCEPTION 'not this one' USING ERRCODE = 'ZZ001'",
    "internal class": "RAISE EXCEPTION 'not this one' USING ERRCODE = 'XX999'",
    "wrong state": "RAISE EXCEPTION 'not this one' USING ERRCODE = '55000'",
    "no privilege": "RAISE EXCEPTION 'not this one' USING ERRCODE = '42501'",
    "no connection": "RAISE EXCEPTION 'not this one' USING ERRCODE = '08006'",
    "shut down": "RAISE EXCEPTION 'not this one' USING ERRCODE = '57P01'",
    "no lock": "RAISE EXCEPTION 'not this one' USING ERRCODE = '55P03'",
    "no table": "PERFORM FROM not_this_one",
    "too large": "PERFORM array_fill(0, ARRAY[2000000000]) /* not this one */",
}


def refuse(engine: Engine, table: str, does: str, key: object = None) -> None:
    """Let a row be refused when it is changed or deleted; without a key, every row."""
    on, column = ("DELETE", "session_key") if "session" in table else ("UPDATE", "id")
    if key is not None:
        poison(engine, table, key, does, on=on, column=column)  # type: ignore[arg-type]
        return
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$ BEGIN {does}; RETURN OLD; END $$"
            )
        )
        connection.execute(
            text(
                f"CREATE TRIGGER refuse BEFORE {on} ON {table}"
                " FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        )


@pytest.mark.parametrize("does", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_10_7_a_row_fails_alone_whatever_state_it_is_refused_with(
    validibot: Validibot, database: Engine, job: tuple[Flow[..., Any], str, Make], does: str
) -> None:
    flow, table, make = job
    items = [make(validibot) for _ in range(ROWS)]
    refuse(database, table, does, items[4])
    report = run(flow, as_of=NOW)
    assert (report.selected, report.done, report.failed) == (ROWS, ROWS - 1, 1)
    assert report.deferred == 0
    (failure,) = report.failures
    assert flow is clear_sessions or str(items[4]) in failure.item
    assert (
        "not this one" in failure.cause
        or "not_this_one" in failure.cause
        or "array" in (failure.cause)
    )


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_10_7_when_every_row_is_refused_the_run_tries_few_of_them_and_ends(
    validibot: Validibot,
    database: Engine,
    job: tuple[Flow[..., Any], str, Make],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bisection, "MOST_REFUSED", 5)
    monkeypatch.setattr(bisection, "PROBES", 2)
    monkeypatch.setattr(refusals, "MOST", 10)
    flow, table, make = job
    tried = "nextval('tries')"
    with database.begin() as connection:
        connection.execute(text("CREATE SEQUENCE tries"))
    for _ in range(REFUSED):
        make(validibot)
    refuse(database, table, f"PERFORM {tried}; INSERT INTO audit VALUES (1)")
    with pytest.raises(DatabaseError, match=r"rows in a row and accepted none.*UndefinedTable"):
        run(flow, as_of=NOW, batch_size=50)
    with database.connect() as connection:
        assert connection.execute(text("SELECT last_value FROM tries")).scalar_one() < TRIED_ALONE
    assert not validibot.purged()


def test_10_7_rows_behind_many_refused_ones_are_done(
    validibot: Validibot, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of the batch is tried as a whole before it is left."""
    monkeypatch.setattr(bisection, "MOST_REFUSED", 5)
    items: list[UUID] = [due_output(validibot) for _ in range(64)]
    bad = sorted(items)[:31]
    listed = ", ".join(f"'{one}'" for one in bad)
    does = f"IF OLD.id IN ({listed}) THEN RAISE EXCEPTION 'not this one'; END IF"
    refuse(database, RUNS, f"{does}; RETURN NEW")
    report = run(purge_expired_outputs, as_of=NOW, batch_size=64)
    assert (report.done, report.failed, report.deferred) == (33, 31, 0)
    assert len(report.failures) == MAX_FAILURES


def test_10_7_a_refused_row_does_not_keep_others_of_the_same_time(
    validibot: Validibot, database: Engine
) -> None:
    keys = [validibot.session(NOW - DAY) for _ in range(300)]
    refuse(database, schema.sessions.name, REFUSALS["wrong state"], keys[0])
    report = run(clear_sessions, as_of=NOW, batch_size=50)
    assert (report.done, report.failed, report.deferred) == (299, 1, 0)
