"""A schedule's three sides, compared: every row of deployments/setup/schedule_merge.py's table."""

from collections.abc import Mapping
from uuid import UUID

import pytest
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from deployments.setup.conflicts import Conflict
from deployments.setup.schedule_merge import Live, Timing, Verdict, judge, to_live

A, B, X = (Timing(f"{minute} 3 * * *", "UTC") for minute in (0, 15, 40))
ONE, OTHER = UUID(int=1), UUID(int=2)
APPLIED: Mapping[str, Timing] = {"s": A}


def live(timing: Timing | None, slug: str | None = "s", identifier: UUID = ONE) -> Live:
    return Live(identifier, slug, timing, str(timing))


def told(verdict: Verdict) -> str:
    """The only line about what was kept, whether it waits for somebody or not."""
    (line,) = (*verdict.kept, *map(str, verdict.conflicts))
    return line


def test_what_is_as_declared_is_left_alone_and_recorded() -> None:
    for applied in (None, {}, {"s": A}, {"s": X}):
        verdict = judge([live(A)], applied, {"s": A})
        assert (verdict.create, verdict.update, verdict.delete) == ({}, {}, [])
        assert (verdict.kept, verdict.conflicts, verdict.applied) == ([], [], {"s": A})


def test_a_changed_default_reaches_who_did_not_edit() -> None:
    verdict = judge([live(A)], APPLIED, {"s": B})
    assert verdict.update == {live(A): B}
    assert (verdict.kept, verdict.applied) == ([], {"s": B})


@pytest.mark.parametrize("edited", [X, Timing(A.cron, "Europe/Vienna"), None])
@pytest.mark.parametrize("declared", [A, B])
def test_an_edited_schedule_is_kept(edited: Timing | None, declared: Timing) -> None:
    verdict = judge([live(edited)], APPLIED, {"s": declared})
    assert (verdict.create, verdict.update, verdict.delete) == ({}, {}, [])
    assert "an operator edited it" in told(verdict)
    assert verdict.applied == {"s": A}


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
    assert judge(schedules, APPLIED, {"s": A}).conflicts == []
    verdict = judge(schedules, APPLIED, {"s": B})
    assert verdict.conflicts == [Conflict("schedule s", kept, str(B), because)]
    assert verdict.kept == []
    # The same file once more: it still waits.
    again = judge(schedules, verdict.applied, {"s": B})
    assert again.conflicts == verdict.conflicts
    # Not when the default is back, nor once the new one is taken, by either way.
    assert judge(schedules, again.applied, {"s": A}).conflicts == []
    by_hand = judge([live(B)], again.applied, {"s": B})
    reset = judge(schedules, again.applied, {"s": B}, reset=True)
    assert by_hand.conflicts == reset.conflicts == []
    # And an edit after that is a plain one.
    for taken in (by_hand, reset):
        assert judge(schedules, taken.applied, {"s": B}).conflicts == []


def test_that_an_edited_schedule_is_to_go_waits_for_a_word() -> None:
    verdict = judge([live(X)], APPLIED, {})
    assert (verdict.create, verdict.update, verdict.delete, verdict.kept) == ({}, {}, [], [])
    assert verdict.conflicts == [Conflict("schedule s", str(X), "none", "an operator edited it")]
    assert judge([live(X)], verdict.applied, {}).conflicts == verdict.conflicts
    assert judge([live(X)], verdict.applied, {"s": A}).conflicts == []
    reset = judge([live(X)], verdict.applied, {}, reset=True)
    assert (reset.delete, reset.conflicts, reset.applied) == ([live(X)], [], {})


def test_an_edit_that_is_taken_back_follows_the_file_again() -> None:
    first = judge([live(X)], APPLIED, {"s": B})
    assert judge([live(A)], first.applied, {"s": B}).update == {live(A): B}


@pytest.mark.parametrize("declared", [A, B])
def test_a_deleted_schedule_stays_deleted(declared: Timing) -> None:
    verdict = judge([], APPLIED, {"s": declared})
    assert (verdict.create, verdict.update, verdict.delete) == ({}, {}, [])
    assert told(verdict) == f"schedule s stays deleted (here {declared}): an operator deleted it"
    again = judge([], verdict.applied, {"s": declared})
    assert again.create == {}


def test_a_new_schedule_of_the_file_is_made() -> None:
    verdict = judge([live(A)], APPLIED, {"s": A, "new": B})
    assert verdict.create == {"new": B}
    assert verdict.applied == {"s": A, "new": B}


@pytest.mark.parametrize("slug", [None, "mine"])
def test_an_added_schedule_is_kept(slug: str | None) -> None:
    verdict = judge([live(A), live(X, slug, OTHER)], APPLIED, {"s": A})
    assert verdict.delete == []
    assert "an operator added it" in told(verdict)
    assert verdict.conflicts == []


def test_what_is_declared_no_more_is_deleted_unless_edited() -> None:
    assert judge([live(A)], APPLIED, {}).delete == [live(A)]
    assert judge([live(X)], APPLIED, {}).delete == []
    assert judge([live(A)], APPLIED, {}).applied == {}


@pytest.mark.parametrize("schedules", [[], [live(X)], [live(X, None)]])
def test_where_nothing_is_known_nothing_is_changed(schedules: list[Live]) -> None:
    verdict = judge(schedules, None, {"s": A})
    assert (verdict.create, verdict.update, verdict.delete) == ({}, {}, [])
    assert verdict.kept
    assert verdict.conflicts == []  # whether the default has changed is not known either
    again = judge(schedules, verdict.applied, {"s": A})
    assert (again.create, again.update, again.delete) == ({}, {}, [])


def test_reset_takes_what_is_declared_and_only_that() -> None:
    added = live(X, None, OTHER)
    verdict = judge([live(X), added], APPLIED, {"s": B, "gone": A}, reset=True)
    assert verdict.update == {live(X): B}
    assert verdict.create == {"gone": A}
    assert verdict.delete == [added]
    assert (verdict.kept, verdict.conflicts) == ([], [])
    assert verdict.applied == {"s": B, "gone": A}


def test_a_crash_before_the_record_is_written_is_healed_by_the_next_apply() -> None:
    # Live is the new default already, and what is remembered is the old one.
    assert judge([live(B)], APPLIED, {"s": B}).applied == {"s": B}
    # Or an operator was faster than the next apply.
    assert judge([live(X)], APPLIED, {"s": B}).update == {}


def test_an_empty_time_zone_is_utc_and_other_kinds_of_schedules_are_nobodys_default() -> None:
    def served(schedule: CronSchedule | IntervalSchedule) -> Live:
        return to_live(DeploymentSchedule(id=ONE, slug="s", schedule=schedule, active=True))

    assert served(CronSchedule(cron=A.cron, timezone="")).timing == A
    assert served(CronSchedule(cron=A.cron)).timing == A
    assert served(CronSchedule(cron=A.cron, timezone="UTC", day_or=False)).timing is None
    assert served(IntervalSchedule.model_validate({"interval": 60})).timing is None
