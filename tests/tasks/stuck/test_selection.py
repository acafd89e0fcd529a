"""Which runs hang: rows on each side of every boundary (SPEC 6.1)."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from sqlalchemy import Engine

from maintenance import schema
from maintenance.cutoff import Cutoff
from maintenance.schema.vocabulary import ACTIVE_ATTEMPT_STATES, AttemptState, RunStatus
from tasks.batching.keyset import KeysetCursor
from tasks.stuck.selection import STUCK_BY_START, count_of_stuck, stuck_runs, without_start
from tests.support.stuck import CUTOFF, MINUTE, TIMEOUT, Hanging
from tests.support.validibot import DAY, NOW, TICK, Validibot

AS_OF = Cutoff(NOW, NOW)
ENDED = [state for state in AttemptState if state not in ACTIVE_ATTEMPT_STATES]


@pytest.fixture
def hanging(validibot: Validibot) -> Hanging:
    return Hanging(validibot)


def selected(engine: Engine, timeout: timedelta = TIMEOUT) -> set[UUID]:
    with engine.connect() as connection:
        return {row.id for row in connection.execute(stuck_runs(AS_OF, timeout))}


def test_the_age_of_a_run_without_deadlines_decides_and_the_cutoff_itself_stays(
    hanging: Hanging, database: Engine
) -> None:
    too_old = {hanging.run(started_at=CUTOFF - TICK), hanging.run(started_at=CUTOFF - 400 * DAY)}
    for started in (CUTOFF, CUTOFF + TICK, NOW, NOW + DAY):
        hanging.run(started_at=started)
    assert selected(database) == too_old


def test_the_timeout_is_an_option(hanging: Hanging, database: Engine) -> None:
    for minutes in (1, 2, 3):
        hanging.run(started_at=NOW - minutes * MINUTE - TICK)
    for minutes, number in ((3, 1), (2, 2), (1, 3), (4, 0)):
        assert len(selected(database, minutes * MINUTE)) == number


@pytest.mark.parametrize("status", [one for one in RunStatus if one is not RunStatus.RUNNING])
def test_only_running_runs_hang(status: str, hanging: Hanging, database: Engine) -> None:
    run_id = hanging.run(status=status)
    hanging.tried(run_id, timeout_at=NOW - DAY)
    assert selected(database) == set()


@pytest.mark.parametrize("state", ACTIVE_ATTEMPT_STATES)
def test_the_deadline_of_an_active_attempt_ends_and_shields_whatever_the_age(
    state: str, hanging: Hanging, database: Engine
) -> None:
    passed = set()
    for started in (CUTOFF - 400 * DAY, CUTOFF, NOW, None):
        for deadline in (NOW - TICK, NOW, NOW + TICK):
            run_id = hanging.run(started_at=started)
            hanging.tried(run_id, state=state, timeout_at=deadline)
            if deadline <= NOW:
                passed.add(run_id)
    assert selected(database) == passed


@pytest.mark.parametrize("state", ENDED)
def test_the_deadline_of_an_attempt_that_has_ended_counts_for_nothing(
    state: str, hanging: Hanging, database: Engine
) -> None:
    young = hanging.run(started_at=CUTOFF)
    hanging.tried(young, state=state, timeout_at=NOW - DAY)
    old = hanging.run()
    hanging.tried(old, state=state, timeout_at=NOW + DAY)
    assert selected(database) == {old}


def test_an_active_attempt_of_any_step_counts(hanging: Hanging, database: Engine) -> None:
    shielded, passed = hanging.run(), hanging.run(started_at=NOW)
    for run_id, deadline in ((shielded, NOW + TICK), (passed, NOW)):
        hanging.tried(run_id)
        hanging.attempt(hanging.step(run_id, 2, status="PASSED"), timeout_at=deadline)
    assert selected(database) == {passed}


def test_one_deadline_that_has_passed_is_enough(hanging: Hanging, database: Engine) -> None:
    run_id = hanging.run(started_at=NOW)
    hanging.tried(run_id, timeout_at=NOW + DAY)
    hanging.attempt(hanging.step(run_id, 2), timeout_at=NOW)
    assert selected(database) == {run_id}


def test_a_run_without_a_start_is_named_and_not_selected(
    hanging: Hanging, database: Engine
) -> None:
    unknown = {hanging.run(started_at=None), hanging.run(started_at=None)}
    hanging.tried(min(unknown))
    ended = hanging.run(started_at=None)
    hanging.tried(ended, state="COMPLETED", timeout_at=NOW + DAY)
    bounded = hanging.run(started_at=None)
    hanging.tried(bounded, timeout_at=NOW + DAY)
    hanging.run(started_at=None, status="PENDING")
    with database.connect() as connection:
        found = connection.execute(without_start(AS_OF)).all()
    assert {row.id for row in found} == unknown | {ended}
    assert {row.number for row in found} == {3}
    assert selected(database) == set()


def test_the_oldest_come_first_and_a_page_follows_the_other(
    hanging: Hanging, database: Engine
) -> None:
    runs = [hanging.run(created=NOW - days * DAY) for days in (1, 3, 2)]
    runs += [hanging.run(created=NOW - 3 * DAY)]
    rows = hanging.validibot.rows(schema.runs)
    expected = sorted(runs, key=lambda run_id: (rows[run_id]["created"], run_id))
    pages = []
    cursor = None
    with database.connect() as connection:
        for _ in range(3):
            page = stuck_runs(AS_OF, TIMEOUT).where(STUCK_BY_START.after(cursor)).limit(2)
            pages.append(connection.execute(page).all())
            cursor = KeysetCursor(pages[-1][-1].moment, pages[-1][-1].id) if pages[-1] else cursor
    assert [len(page) for page in pages] == [2, 2, 0]
    assert [row.id for page in pages for row in page] == expected


def test_what_hangs_is_counted_with_the_longest_wait(hanging: Hanging, database: Engine) -> None:
    query = count_of_stuck(AS_OF, TIMEOUT)
    with database.connect() as connection:
        assert tuple(connection.execute(query).one()) == (0, None)
    hanging.run(started_at=CUTOFF - 5 * MINUTE)
    hanging.tried(hanging.run(started_at=NOW), timeout_at=NOW - 6 * MINUTE)
    hanging.run(started_at=CUTOFF)
    with database.connect() as connection:
        assert tuple(connection.execute(query).one()) == (2, NOW - 6 * MINUTE)


Moment = datetime | None
moments = st.sampled_from([None, NOW - DAY, CUTOFF - TICK, CUTOFF, CUTOFF + TICK, NOW])
deadlines = st.sampled_from([None, NOW - DAY, NOW - TICK, NOW, NOW + TICK, NOW + DAY])
tries = st.lists(st.tuples(st.sampled_from(list(AttemptState)), deadlines), max_size=3)
runs = st.tuples(st.sampled_from(list(RunStatus)), moments, tries)


@profile(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(runs, min_size=1, max_size=6))
def test_the_selection_is_the_rule(
    hanging: Hanging,
    database: Engine,
    drawn: list[tuple[RunStatus, Moment, list[tuple[AttemptState, Moment]]]],
) -> None:
    """The same rule, written down a second time, run by run."""
    earlier = set(hanging.validibot.rows(schema.runs))
    expected = set()
    for status, started, attempts in drawn:
        run_id = hanging.run(status=status, started_at=started)
        for number, (state, deadline) in enumerate(attempts, start=1):
            hanging.attempt(hanging.step(run_id, number), state=state, timeout_at=deadline)
        bounds = [at for state, at in attempts if state in ACTIVE_ATTEMPT_STATES and at is not None]
        too_old = started is not None and started < CUTOFF
        stuck = min(bounds) <= NOW if bounds else too_old
        if stuck and status is RunStatus.RUNNING:
            expected.add(run_id)
    assert selected(database) - earlier == expected
