"""When Prefect's schedules are due, and lines that no date matches."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from deployments.due import NEVER_DUE, never_due, next_dates
from deployments.names import PREFECT_FILE
from deployments.setup.declared import DeclarationError, read_declared

START = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "day_or", "never"),
    [
        ("0 0 30 2 *", True, True),
        ("0 0 30 2 *", False, True),
        ("0 0 31 4,6 *", True, True),
        ("0 0 29 2 *", True, False),
        ("0 0 L 2 *", True, False),
        ("0 2 * * *", True, False),
    ],
)
def test_a_line_that_no_date_matches_is_recognized(line: str, day_or: bool, never: bool) -> None:
    schedule = CronSchedule(cron=line, timezone="UTC", day_or=day_or)
    assert never_due(schedule) is never
    assert (next_dates(schedule, 1, START) == []) is never


def test_intervals_and_rules_have_dates() -> None:
    hour = IntervalSchedule(interval=timedelta(hours=1), anchor_date=START)
    assert next_dates(hour, 2, START) == [START, START + timedelta(hours=1)]
    assert not never_due(hour)
    assert not never_due(RRuleSchedule(rrule="FREQ=DAILY"))


def test_what_is_no_line_at_all_is_an_error_of_its_own() -> None:
    broken = CronSchedule(cron="0 2 * * *").model_copy(update={"cron": "no cron line"})
    assert not never_due(broken)
    with pytest.raises(ValueError, match="cron"):
        next_dates(broken, 1, START)


def test_prefect_yaml_with_such_a_line_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prefect.yaml"
    content = PREFECT_FILE.read_text()
    assert '"0 2 * * *"' in content
    file.write_text(content.replace('"0 2 * * *"', '"0 0 30 2 *"'))
    with pytest.raises(DeclarationError, match=f"clear-sessions: 0 0 30 2 . {NEVER_DUE}"):
        read_declared(file)
