"""Which containers are orphans, decided without a container engine or a database (SPEC 7)."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maintenance.containers.labels import MANAGED, RUN_ID, STARTED_AT, TIMEOUT_SECONDS
from maintenance.containers.managed import ManagedContainer
from maintenance.containers.orphans import (
    MAX_CLOCK_SKEW,
    MAX_WARNINGS,
    Moments,
    RunEnd,
    lifetime,
    outlived_its_run,
    outlived_its_timeout,
    select_all,
    select_orphans,
)
from maintenance.schema.vocabulary import TERMINAL_RUN_STATUSES, RunStatus

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
GRACE = timedelta(seconds=300)
DEFAULT = timedelta(seconds=3600)
MOMENTS = Moments(as_of=NOW, now=NOW, grace=GRACE, default_timeout=DEFAULT)

numbers = count(1)


def container(
    started: object = None,
    timeout: object = None,
    run_id: object = None,
    created: datetime = NOW,
) -> ManagedContainer:
    labels = {MANAGED: "true", STARTED_AT: started, TIMEOUT_SECONDS: timeout, RUN_ID: run_id}
    return ManagedContainer(
        id=f"{next(numbers):064x}",
        name="odd",
        labels={name: str(value) for name, value in labels.items() if value is not None},
        created=created,
        state="running",
    )


def is_orphan(one: ManagedContainer, runs: dict[UUID, RunEnd] | None = None) -> bool:
    return select_orphans([one], runs or {}, MOMENTS).orphans == [one]


@pytest.mark.parametrize(
    ("age", "orphan"),
    [
        (timedelta(0), False),
        (GRACE + 60 * SECOND - TICK, False),
        (GRACE + 60 * SECOND, False),
        (GRACE + 60 * SECOND + TICK, True),
    ],
)
def test_a_container_may_last_for_its_time_out_plus_the_grace_period(
    age: timedelta, orphan: bool
) -> None:
    assert is_orphan(container((NOW - age).isoformat(), 60)) == orphan


def test_without_a_time_out_the_default_holds_and_nothing_is_reported() -> None:
    limit = NOW - DEFAULT - GRACE
    assert not is_orphan(container(limit.isoformat()))
    late = container((limit - TICK).isoformat())
    assert is_orphan(late)
    assert lifetime(late, MOMENTS).unreadable == ()


@pytest.mark.parametrize(
    "label",
    [
        "2026-11-15T11:00:00+00:00",
        "2026-11-15T11:00:00Z",
        "2026-11-15 11:00:00.000000+00:00",
        "2026-11-15T12:00:00+01:00",
        "2026-11-15T05:30:00-05:30",
        "20261115T110000Z",
        " 2026-11-15T11:00:00.000000000Z ",
    ],
)
def test_a_start_is_read_in_every_iso_format(label: str) -> None:
    life = lifetime(container(label), MOMENTS)
    assert (life.started, life.unreadable) == (NOW - timedelta(hours=1), ())


@pytest.mark.parametrize(
    ("label", "fault"),
    [
        (None, "is missing"),
        ("", "is not a time"),
        ("soon", "is not a time"),
        ("1763200000", "is not a time"),
        ("2026-13-45T00:00:00Z", "is not a time"),
        ("2026-11-15T11:00:00", "has no zone"),
        ("2026-11-15", "has no zone"),
        ((NOW + MAX_CLOCK_SKEW + TICK).isoformat(), "lies in the future"),
        ("9999-12-31T23:59:59-23:59", "lies in the future"),
    ],
)
def test_a_start_that_cannot_be_read_falls_back_to_the_engines_time_and_is_reported(
    label: str | None, fault: str
) -> None:
    young = container(label, 60, created=NOW - GRACE - 60 * SECOND)
    old = container(label, 60, created=NOW - GRACE - 61 * SECOND)
    selection = select_orphans([young, old], {}, MOMENTS)
    assert selection.orphans == [old]
    assert selection.warnings == [
        f"{one.item}: org.validibot.started_at {fault}" for one in (old, young)
    ]


@pytest.mark.parametrize(
    ("label", "fault"),
    [
        ("", "is not a number of seconds"),
        ("an hour", "is not a number of seconds"),
        ("-60", "is not a number of seconds"),
        ("1e3", "is not a number of seconds"),
        ("nan", "is not a number of seconds"),
        ("inf", "is not a number of seconds"),
        ("1_000", "is not a number of seconds"),
        ("٣", "is not a number of seconds"),
        ("9" * 400, "is not a number of seconds"),
        ("0", "is out of bounds"),
        ("9999999999", "is out of bounds"),
    ],
)
def test_a_timeout_that_cannot_be_read_falls_back_to_the_default_and_is_reported(
    label: str, fault: str
) -> None:
    limit = NOW - DEFAULT - GRACE
    young = container(limit.isoformat(), label)
    old = container((limit - TICK).isoformat(), label, created=NOW - SECOND)
    selection = select_orphans([young, old], {}, MOMENTS)
    assert selection.orphans == [old]
    assert selection.warnings == [
        f"{one.item}: org.validibot.timeout_seconds {fault}" for one in (old, young)
    ]


def test_a_start_within_the_clock_skew_is_accepted() -> None:
    one = container((NOW + MAX_CLOCK_SKEW).isoformat(), created=NOW - timedelta(days=9))
    assert lifetime(one, MOMENTS).unreadable == ()
    assert not is_orphan(one)


def test_a_container_that_started_after_a_past_cutoff_is_neither_orphan_nor_reported() -> None:
    moments = Moments(NOW - timedelta(days=1), NOW, GRACE, DEFAULT)
    selection = select_orphans([container(NOW.isoformat())], {}, moments)
    assert (selection.orphans, selection.warnings) == ([], [])


def test_of_many_unreadable_labels_the_first_are_listed_and_the_others_counted() -> None:
    found = select_orphans([container() for _ in range(MAX_WARNINGS + 7)], {}, MOMENTS).warnings
    assert len(found) == MAX_WARNINGS + 1
    assert found[-1] == "7 more labels that cannot be read"


@pytest.mark.parametrize("status", [*RunStatus, "ODD"])
@pytest.mark.parametrize(
    ("since", "long_enough"), [(GRACE, False), (GRACE + TICK, True), (None, False)]
)
def test_a_container_may_outlive_its_ended_run_for_the_grace_period_only(
    status: str, since: timedelta | None, long_enough: bool
) -> None:
    run_id = uuid4()
    run = RunEnd(status, NOW - since if since else None)
    fresh = container(NOW.isoformat(), 3600, run_id)
    expected = long_enough and status in TERMINAL_RUN_STATUSES
    assert is_orphan(fresh, {run_id: run}) == expected


@pytest.mark.parametrize("run_id", [None, "", "not a run", uuid4()])
def test_for_a_container_without_a_known_run_only_its_age_counts(run_id: object) -> None:
    runs = {uuid4(): RunEnd("SUCCEEDED", NOW - timedelta(days=1))}
    assert not is_orphan(container(NOW.isoformat(), 60, run_id), runs)
    assert is_orphan(container((NOW - timedelta(days=1)).isoformat(), 60, run_id), runs)


def test_orphans_come_oldest_first() -> None:
    ages = (3, 1, 2)
    made = [container(timeout=1, created=NOW - timedelta(days=days)) for days in ages]
    chosen = select_orphans(made, {}, MOMENTS).orphans
    assert chosen == sorted(made, key=lambda one: one.created)
    assert select_all(made, {}, force=False) == chosen


def test_remove_all_keeps_the_containers_of_running_runs_unless_forced() -> None:
    by_status = {status: (uuid4(), RunEnd(status, None)) for status in (*RunStatus, "ODD")}
    runs = dict(by_status.values())
    made = {status: container(run_id=run_id) for status, (run_id, _) in by_status.items()}
    lone = [container(), container(run_id="odd"), container(run_id=uuid4())]
    everything = [*made.values(), *lone]
    kept = {made["RUNNING"].id}
    assert {one.id for one in select_all(everything, runs, force=True)} == {
        one.id for one in everything
    }
    assert {one.id for one in everything} - kept == {
        one.id for one in select_all(everything, runs, force=False)
    }


@given(st.text(), st.text(), st.text())
def test_no_label_raises_an_error(started: str, timeout: str, run_id: str) -> None:
    one = container(started, timeout, run_id)
    life = lifetime(one, MOMENTS)
    assert timedelta(0) < life.timeout
    outlived_its_timeout(life, MOMENTS)
    outlived_its_run(None, MOMENTS)
    select_all([one], {}, force=False)


DAY = timedelta(days=1)
OFFSETS = st.timedeltas(TICK - DAY, DAY - TICK)


@given(st.datetimes(timezones=st.builds(timezone, OFFSETS)))
def test_every_time_with_a_zone_is_read(started: datetime) -> None:
    life = lifetime(container(started.isoformat()), MOMENTS)
    outlived_its_timeout(life, MOMENTS)
    assert life.started == started or life.unreadable
