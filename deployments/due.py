"""When Prefect's schedules are due, computed with the server's own classes."""

import asyncio
from datetime import datetime

from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule
from prefect.server.schemas import schedules as computing

Computing = computing.CronSchedule | computing.IntervalSchedule | computing.RRuleSchedule

NEVER_DUE = "never comes due"


def next_dates(schedule: SCHEDULE_TYPES, number: int, since: datetime) -> list[datetime]:
    """Return the first times from `since` on at which a schedule starts a run.

    The list is empty for a cron line that no date matches, such as 30 February.
    """
    if isinstance(schedule, CronSchedule) and never_due(schedule):
        return []
    return list(asyncio.run(_computing(schedule).get_dates(number, since)))


def never_due(schedule: SCHEDULE_TYPES) -> bool:
    """Return whether a schedule is a cron line that no date matches.

    Prefect accepts such a line. While it is active, the server makes no runs of its deployment,
    not even those of the deployment's other schedules.
    """
    if not isinstance(schedule, CronSchedule):
        return False
    try:
        cron = _computing(schedule)
    except ValueError:
        return False  # no cron line at all
    try:
        return not asyncio.run(cron.get_dates(1))
    except ValueError:  # croniter found no date
        return True


def _computing(schedule: SCHEDULE_TYPES) -> Computing:
    """Return the server's class of a schedule, which can compute its dates."""
    fields = schedule.model_dump()
    if isinstance(schedule, CronSchedule):
        return computing.CronSchedule.model_validate(fields)
    if isinstance(schedule, IntervalSchedule):
        return computing.IntervalSchedule.model_validate(fields)
    return computing.RRuleSchedule.model_validate(fields)
