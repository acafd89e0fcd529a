"""The three-way merge: every row of the table in deployments/setup/schedule_merge.py."""

from collections.abc import Mapping
from uuid import UUID

import pytest
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from deployments.setup.conflicts import Conflict
from deployments.setup.schedule_merge import Live, Merge, Timing, merge, to_live

A, B, X = (Timing(f"{minute} 3 * * *", "UTC") for minute in (0, 15, 40))
ONE, OTHER = UUID(int=1), UUID(int=2)
APPLIED: Mapping[str, Timing] = {"s": A}


def live(timing: Timing | None, slug: str | None = "s", identifier: UUID = ONE) -> Live:
    return Live(identifier, slug, timing, str(timing))


def kept(merged: Merge) -> str:
    """Return the only line about what was kept, conflict or not."""
    (line,) = (*merged.kept, *map(str, merged.conflicts))
    return line


def test_what_is_as_declared_is_left_alone_and_recorded() -> None:
    for applied in (None, {}, {"s": A}, {"s": X}):
        merged = merge([live(A)], applied, {"s": A})
        assert (merged.create, merged.update, merged.delete) == ({}, {}, [])
        assert (merged.kept, merged.conflicts, merged.applied) == ([], [], {"s": A})


def test_a_changed_default_reaches_who_did_not_edit() -> None:
    merged = merge([live(A)], APPLIED, {"s": B})
    assert merged.update == {live(A): B}
    assert (merged.kept, merged.applied) == ([], {"s": B})


@pytest.mark.parametrize("edited", [X, Timing(A.cron, "Europe/Vienna"), None])
@pytest.mark.parametrize("declared", [A, B])
def test_an_edited_schedule_is_kept(edited: Timing | None, declared: Timing) -> None:
    merged = merge([live(edited)], APPLIED, {"s": declared})
    assert (merged.create, merged.update, merged.delete) == ({}, {}, [])
    assert "an operator edited it" in kept(merged)
    assert merged.applied == {"s": A}


@pytest.mark.parametrize(
    ("schedules", "kept", "because"),
    [
        ([live(X)], str(X), "an operator edited it"),
        ([live(None)], "None", "an operator edited it"),
        ([], "deleted", "an operator deleted it"),
    ],
)
def test_an_edit_waits_for_a_word_when_the_default_has_changed_and_only_then(
    schedules: list[Live], kept: str, because: str
) -> None:
    assert merge(schedules, APPLIED, {"s": A}).conflicts == []
    merged = merge(schedules, APPLIED, {"s": B})
    assert merged.conflicts == [Conflict("schedule s", kept, str(B), because)]
    assert merged.kept == []
    # The same file once more: it still waits.
    again = merge(schedules, merged.applied, {"s": B})
    assert again.conflicts == merged.conflicts
    # Not when the default is back, nor once the new one is taken, by either way.
    assert merge(schedules, again.applied, {"s": A}).conflicts == []
    by_hand = merge([live(B)], again.applied, {"s": B})
    reset = merge(schedules, again.applied, {"s": B}, reset=True)
    assert by_hand.conflicts == reset.conflicts == []
    # And an edit after that is a plain one.
    for taken in (by_hand, reset):
        assert merge(schedules, taken.applied, {"s": B}).conflicts == []


def test_that_an_edited_schedule_is_to_go_waits_for_a_word() -> None:
    merged = merge([live(X)], APPLIED, {})
    assert (merged.create, merged.update, merged.delete, merged.kept) == ({}, {}, [], [])
    assert merged.conflicts == [Conflict("schedule s", str(X), "none", "an operator edited it")]
    assert merge([live(X)], merged.applied, {}).conflicts == merged.conflicts
    assert merge([live(X)], merged.applied, {"s": A}).conflicts == []
    reset = merge([live(X)], merged.applied, {}, reset=True)
    assert (reset.delete, reset.conflicts, reset.applied) == ([live(X)], [], {})


def test_an_edit_that_is_taken_back_follows_the_file_again() -> None:
    first = merge([live(X)], APPLIED, {"s": B})
    assert merge([live(A)], first.applied, {"s": B}).update == {live(A): B}


@pytest.mark.parametrize("declared", [A, B])
def test_a_deleted_schedule_stays_deleted(declared: Timing) -> None:
    merged = merge([], APPLIED, {"s": declared})
    assert (merged.create, merged.update, merged.delete) == ({}, {}, [])
    assert kept(merged) == f"schedule s stays deleted (here {declared}): an operator deleted it"
    again = merge([], merged.applied, {"s": declared})
    assert again.create == {}


def test_a_new_schedule_of_the_file_is_made() -> None:
    merged = merge([live(A)], APPLIED, {"s": A, "new": B})
    assert merged.create == {"new": B}
    assert merged.applied == {"s": A, "new": B}


@pytest.mark.parametrize("slug", [None, "mine"])
def test_an_added_schedule_is_kept(slug: str | None) -> None:
    merged = merge([live(A), live(X, slug, OTHER)], APPLIED, {"s": A})
    assert merged.delete == []
    assert "an operator added it" in kept(merged)
    assert merged.conflicts == []


def test_what_is_declared_no_more_is_deleted_unless_edited() -> None:
    assert merge([live(A)], APPLIED, {}).delete == [live(A)]
    assert merge([live(X)], APPLIED, {}).delete == []
    assert merge([live(A)], APPLIED, {}).applied == {}


@pytest.mark.parametrize("schedules", [[], [live(X)], [live(X, None)]])
def test_where_nothing_is_known_nothing_is_changed(schedules: list[Live]) -> None:
    merged = merge(schedules, None, {"s": A})
    assert (merged.create, merged.update, merged.delete) == ({}, {}, [])
    assert merged.kept
    assert merged.conflicts == []  # whether the default has changed is not known either
    again = merge(schedules, merged.applied, {"s": A})
    assert (again.create, again.update, again.delete) == ({}, {}, [])


def test_reset_takes_what_is_declared_and_only_that() -> None:
    added = live(X, None, OTHER)
    merged = merge([live(X), added], APPLIED, {"s": B, "gone": A}, reset=True)
    assert merged.update == {live(X): B}
    assert merged.create == {"gone": A}
    assert merged.delete == [added]
    assert (merged.kept, merged.conflicts) == ([], [])
    assert merged.applied == {"s": B, "gone": A}


def test_a_crash_before_the_record_is_written_is_healed_by_the_next_apply() -> None:
    # Live is the new default already, and what is remembered is the old one.
    assert merge([live(B)], APPLIED, {"s": B}).applied == {"s": B}
    # Or an operator was faster than the next apply.
    assert merge([live(X)], APPLIED, {"s": B}).update == {}


def test_an_empty_time_zone_is_utc_and_other_kinds_of_schedules_are_no_default() -> None:
    def served(schedule: CronSchedule | IntervalSchedule) -> Live:
        return to_live(DeploymentSchedule(id=ONE, slug="s", schedule=schedule, active=True))

    assert served(CronSchedule(cron=A.cron, timezone="")).timing == A
    assert served(CronSchedule(cron=A.cron)).timing == A
    assert served(CronSchedule(cron=A.cron, timezone="UTC", day_or=False)).timing is None
    assert served(IntervalSchedule.model_validate({"interval": 60})).timing is None
