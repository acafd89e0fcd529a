import time
from itertools import pairwise

import pytest

from maintenance.budget import SLICE_SECONDS, BatchSizer, Budget, SliceBudget, SliceClock

AGES = 10_000.0
"""Longer than any test takes."""


def test_a_budget_lasts_until_its_batches_are_used_up() -> None:
    budget = Budget(AGES, max_batches=3)
    budget.spend(2)
    assert budget.exhausted_by is None
    budget.spend(1)
    assert budget.exhausted_by == "max_batches"


def test_a_budget_lasts_until_its_time_is_used_up() -> None:
    assert Budget(AGES).exhausted_by is None
    assert Budget(0).exhausted_by == "time_budget"


def test_batches_without_a_limit_never_run_out() -> None:
    budget = Budget(AGES)
    budget.spend(10**9)
    assert budget.exhausted_by is None
    assert budget.slice().max_batches is None


def test_when_both_are_used_up_the_batches_are_named() -> None:
    budget = Budget(0, max_batches=1)
    budget.spend(1)
    assert budget.exhausted_by == "max_batches"


def test_the_time_runs_from_the_budgets_creation() -> None:
    before = time.monotonic()
    budget = Budget(AGES)
    first, second = budget.seconds_left, budget.seconds_left
    passed = time.monotonic() - before
    assert AGES - passed <= second <= first <= AGES


def test_a_slice_gets_what_is_left_of_both() -> None:
    budget = Budget(AGES, max_batches=5)
    budget.spend(3)
    assert budget.slice() == SliceBudget(SLICE_SECONDS, 2)
    assert 0 < Budget(SLICE_SECONDS / 2).slice().seconds <= SLICE_SECONDS / 2


def test_a_slice_always_allows_its_first_batch() -> None:
    clock = SliceBudget(seconds=-1.0).clock()
    assert [clock.another(), clock.another()] == [True, False]


def test_a_slice_allows_max_batches() -> None:
    clock = SliceBudget(AGES, max_batches=3).clock()
    allowed = []
    for _ in range(5):
        allowed.append(clock.another())
        clock.count(selected=1)
    assert allowed == [True, True, True, False, False]


def test_batches_that_select_nothing_do_not_count() -> None:
    clock = SliceBudget(AGES, max_batches=1).clock()
    for _ in range(5):
        clock.count(selected=0)
        assert clock.another()
    clock.count(selected=3)
    assert (clock.another(), clock.batches) == (False, 1)


def test_repairs_have_a_quarter_of_the_time_and_no_limit_of_batches() -> None:
    budget = Budget(8.0, max_batches=1)
    budget.spend(1)
    assert budget.secondary_slice().max_batches is None
    assert 1.0 < budget.secondary_slice().seconds <= 2.0
    budget.spend_secondary(1.5)
    assert 0.0 < budget.secondary_seconds_left <= 0.5
    budget.spend_secondary(0.5)
    assert budget.secondary_seconds_left <= 0
    assert Budget(0.0).secondary_seconds_left <= 0


def test_a_slice_without_batches_left_allows_none() -> None:
    assert not SliceBudget(AGES, max_batches=0).clock().another()


def test_a_slice_continues_until_its_deadline() -> None:
    early = SliceClock(time.monotonic() + AGES, None)
    late = SliceClock(time.monotonic(), None)
    assert [early.another() for _ in range(3)] == [True, True, True]
    assert [late.another() for _ in range(3)] == [True, False, False]


def test_the_first_batches_are_small() -> None:
    assert BatchSizer(800, 1.0).size == 100
    assert BatchSizer(7, 1.0).size == 1
    assert BatchSizer(1, 1.0).size == 1
    assert BatchSizer(800, 1.0, size=5).size == 5


def test_a_batch_at_most_doubles_up_to_the_maximum() -> None:
    sizer = BatchSizer(800, target_seconds=1.0)
    sizes = [sizer.size]
    for _ in range(5):
        sizer.took(sizer.size, 1e-9)
        sizes.append(sizer.size)
    assert sizes == [100, 200, 400, 800, 800, 800]


def test_a_batch_shrinks_at_once_to_what_fits() -> None:
    sizer = BatchSizer(1000, target_seconds=0.5, size=1000)
    sizer.took(1000, 5.0)
    assert sizer.size == 100


@pytest.mark.parametrize(("seconds", "size"), [(0.5, 100), (0.4, 125), (0.25, 200), (0.1, 200)])
def test_the_batch_size_follows_the_target_time(seconds: float, size: int) -> None:
    sizer = BatchSizer(1000, target_seconds=0.5, size=100)
    sizer.took(100, seconds)
    assert sizer.size == size


def test_a_batch_has_at_least_one_row() -> None:
    sizer = BatchSizer(1000, target_seconds=0.5, size=2)
    for _ in range(3):
        sizer.took(sizer.size, AGES)
        assert sizer.size == 1
        sizer.collided()
        assert sizer.size == 1


def test_an_empty_batch_does_not_change_the_size() -> None:
    sizer = BatchSizer(1000, target_seconds=0.5, size=64)
    sizer.took(0, AGES)
    sizer.took(0, 0.0)
    assert sizer.size == 64


def test_a_batch_that_took_no_time_doubles_the_size() -> None:
    sizer = BatchSizer(1000, target_seconds=0.5, size=64)
    sizer.took(64, 0.0)
    assert sizer.size == 128


def test_a_collision_halves_the_batch() -> None:
    sizer = BatchSizer(1000, target_seconds=0.5, size=100)
    sizes = [sizer.size]
    for _ in range(8):
        sizer.collided()
        sizes.append(sizer.size)
    assert sizes == [100, 50, 25, 12, 6, 3, 1, 1, 1]
    assert all(after == max(1, before // 2) for before, after in pairwise(sizes))
