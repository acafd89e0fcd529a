import copy
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from maintenance.report import (
    FINGERPRINT_MODULUS,
    MAX_FAILURES,
    MAX_WARNINGS,
    BatchResult,
    Failure,
    Overdue,
    Report,
    StopReason,
)

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)

counts = st.integers(0, 1000)
fingerprints = st.integers(0, FINGERPRINT_MODULUS - 1).map("{:032x}".format)
counters = st.dictionaries(st.sampled_from(["runs", "files", "sessions"]), st.integers(1, 9))
moments = st.none() | st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(tzinfo=UTC)
)


@st.composite
def results(draw: st.DrawFn) -> BatchResult:
    result = BatchResult(
        selected=draw(counts),
        done=draw(counts),
        deferred=draw(counts),
        skipped=draw(counts),
        batches=draw(counts),
        files=draw(counts),
        bytes=draw(counts),
        fingerprint=draw(st.none() | fingerprints),
        oldest=draw(moments),
        newest=draw(moments),
    )
    for part in (result.rows_by_table, result.repaired, result.unknown_policies):
        part.update(draw(counters))
    for number in range(draw(st.integers(0, 25))):
        result.fail(f"item {draw(counts)}", f"cause {number}")
    return result


def report(**values: object) -> Report:
    return Report.model_validate({"job": "clear-sessions", "dry_run": False, "as_of": NOW} | values)


def added(*parts: BatchResult) -> Report:
    total = report()
    for part in parts:
        total.add(part)
    return total


@profile(max_examples=150, deadline=None, derandomize=True)
@given(first=results(), second=results(), third=results())
def test_it_does_not_matter_where_the_slices_are_cut(
    first: BatchResult, second: BatchResult, third: BatchResult
) -> None:
    one_by_one = added(first, second, third)
    left = copy.deepcopy(first)
    left += second
    left += third
    right = copy.deepcopy(second)
    right += third
    assert added(left) == one_by_one
    assert added(first, right) == one_by_one


@profile(max_examples=100, deadline=None, derandomize=True)
@given(parts=st.lists(results(), max_size=4))
def test_a_report_holds_the_sums_and_the_extremes(parts: list[BatchResult]) -> None:
    total = added(*parts)
    for name in ("selected", "done", "failed", "deferred", "skipped", "batches", "files", "bytes"):
        assert getattr(total, name) == sum(getattr(part, name) for part in parts)
    for table in ("runs", "files", "sessions"):
        assert total.rows_by_table.get(table, 0) == sum(part.rows_by_table[table] for part in parts)
        assert total.repaired.get(table, 0) == sum(part.repaired[table] for part in parts)
        assert total.unknown_policies.get(table, 0) == sum(
            part.unknown_policies[table] for part in parts
        )
    assert total.oldest == min((part.oldest for part in parts if part.oldest), default=None)
    assert total.newest == max((part.newest for part in parts if part.newest), default=None)
    assert int(total.fingerprint or "0", 16) == (
        sum(int(part.fingerprint or "0", 16) for part in parts) % FINGERPRINT_MODULUS
    )


@profile(max_examples=50, deadline=None, derandomize=True)
@given(part=results())
def test_an_empty_result_adds_nothing(part: BatchResult) -> None:
    before = added(part)
    assert added(BatchResult(), part, BatchResult()) == before
    assert before != added(part, BatchResult(done=1))


@pytest.mark.parametrize("failed", [0, 1, MAX_FAILURES - 1, MAX_FAILURES, MAX_FAILURES + 1, 500])
def test_failures_are_counted_in_full_and_listed_up_to_twenty(failed: int) -> None:
    assert MAX_FAILURES == 20
    result = BatchResult()
    for number in range(failed):
        result.fail(f"submission {number}", "disk")
    total = added(result)
    expected = [Failure(item=f"submission {n}", cause="disk") for n in range(min(failed, 20))]
    assert (total.failed, total.failures) == (failed, expected)
    assert total.items_failed == (failed > 0)


def test_the_first_failures_of_many_slices_are_listed() -> None:
    parts = []
    for start in range(0, 40, 8):
        part = BatchResult()
        for number in range(start, start + 8):
            part.fail(str(number), "disk")
        parts.append(part)
    total = added(*parts)
    assert [failure.item for failure in total.failures] == [str(n) for n in range(20)]
    assert total.failed == 40


def test_the_fingerprint_depends_on_the_items_and_not_on_their_order() -> None:
    ids = [UUID(int=n * 2**120 + n) for n in range(1, 200)]
    shuffled = random.Random(1).sample(ids, len(ids))

    def of(items: list[UUID]) -> str | None:
        return added(*(BatchResult.selecting([item.int]) for item in items)).fingerprint

    assert of(shuffled) == of(ids)
    assert of(ids[:-1]) != of(ids)
    assert len(of(ids) or "") == 32
    assert of([]) is None


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({}, "Nothing to do"),
        ({"selected": 1200, "done": 1200}, "1,200 of 1,200 done"),
        (
            {"selected": 9, "done": 4, "failed": 2, "deferred": 2, "skipped": 1},
            "4 of 9 done, 2 failed, 2 deferred, 1 skipped",
        ),
        ({"repaired": {"deadlines repaired": 3}}, "0 of 0 done, 3 deadlines repaired"),
        (
            {"selected": 2, "done": 2, "files": 1500, "bytes": 3 * 1024**2},
            "2 of 2 done, 1,500 files (3.0 MiB)",
        ),
        (
            {
                "selected": 2,
                "done": 2,
                "stopped_because": "time_budget",
                "overdue": Overdue(rows=7),
            },
            "2 of 2 done, stopped by time budget, 7 still overdue",
        ),
        (
            {"selected": 2, "done": 2, "stopped_because": "max_batches"},
            "2 of 2 done, stopped by max batches",
        ),
        ({"selected": 2, "done": 2, "overdue": Overdue(rows=0)}, "2 of 2 done"),
        ({"stopped_because": "max_batches"}, "Nothing to do, stopped by max batches"),
        (
            {"stopped_because": "skipped", "message": "another run holds the job"},
            "Skipped: another run holds the job",
        ),
        (
            {"stopped_because": "error", "done": 1500, "message": "GuardLost: gone"},
            "Stopped by an error after 1,500 items: GuardLost: gone",
        ),
        (
            {"dry_run": True, "selected": 1500, "files": 1, "bytes": 5, "overdue": Overdue(rows=9)},
            "Dry run: 1,500 selected, nothing changed, 1 file (5 B)",
        ),
        ({"dry_run": True}, "Dry run: 0 selected, nothing changed"),
    ],
)
def test_each_kind_of_end_has_its_line(values: dict[str, object], line: str) -> None:
    assert report(**values).summary() == line


def test_every_reason_to_stop_but_the_usual_one_is_in_the_line() -> None:
    lines = {
        reason: report(stopped_because=reason, message="why").summary() for reason in StopReason
    }
    assert len(set(lines.values())) == len(StopReason)
    assert lines[StopReason.DRAINED] == "Nothing to do"


def test_a_report_survives_json() -> None:
    result = BatchResult(selected=3, done=2, oldest=NOW - timedelta(days=1), newest=NOW)
    result.rows_by_table["runs"] = 2
    result.fail("submission 1", "disk")
    total = added(result)
    total.overdue = Overdue(rows=1, oldest_age_seconds=1.5)
    assert total.failed_items == {"submission 1": "disk"}
    # All that is printed comes back; the longer list of failed items is not printed.
    printed = total.model_copy(update={"failed_items": {}})
    assert Report.model_validate_json(total.model_dump_json()) == printed


def test_a_warning_of_the_work_is_said_once_and_only_so_many_are() -> None:
    done = BatchResult(warnings=["engine away"])
    done += BatchResult(warnings=["engine away", "odd label"])
    assert done.warnings == ["engine away", "odd label"]
    total = report(warnings=["an index is missing"])
    for _ in range(3):
        total.add(done)
    assert total.warnings == ["an index is missing", "engine away", "odd label"]
    total.add(BatchResult(warnings=[f"warning {number}" for number in range(100)]))
    assert len(total.warnings) == MAX_WARNINGS
    assert total.warnings[-1] == f"warning {MAX_WARNINGS - 4}"
