"""Whose schedule is it? Three sides compared: live, last applied, and declared.

| live | last applied | declared | then |
|---|---|---|---|
| as declared | anything | A | nothing to do |
| A | A | B | the default has changed, and nobody edited: take B |
| X | A | A or B | an operator edited it: keep X |
| gone | A | A or B | an operator deleted it: leave it so |
| gone | never | A | it is new: make it |
| X | never | not there | an operator added it: keep it |
| A | A | not there | it is declared no more: delete it |

A deployment of which nothing is known (it was made by something else) counts as edited wherever
it differs: better an old default than an operator's edit undone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule


@dataclass(frozen=True)
class Timing:
    """When a schedule starts runs: a cron line in a time zone."""

    cron: str
    timezone: str

    def __str__(self) -> str:
        """Write it as in a table."""
        return f"{self.cron} {self.timezone}"

    def to_schedule(self) -> CronSchedule:
        """Return it as Prefect's schedule."""
        return CronSchedule(cron=self.cron, timezone=self.timezone)


@dataclass(frozen=True)
class Live:
    """A schedule as it is on the server."""

    id: UUID
    slug: str | None
    timing: Timing | None
    """None when it is not a cron line: an interval, or a rule."""
    text: str

    @property
    def name(self) -> str:
        """What it is called."""
        return self.slug or str(self.id)


@dataclass(frozen=True)
class Verdict:
    """What to do about the schedules of one deployment, and what was kept and why."""

    create: Mapping[str, Timing]
    update: Mapping[Live, Timing]
    delete: Sequence[Live]
    kept: Sequence[str]
    applied: Mapping[str, Timing]
    """What counts as last applied once all that is done."""


def to_live(one: DeploymentSchedule) -> Live:
    """Return what the server says of a schedule."""
    schedule = one.schedule
    if not isinstance(schedule, CronSchedule):
        kind = type(schedule).__name__.removesuffix("Schedule").lower()
        return Live(one.id, one.slug, None, kind)
    timing = Timing(schedule.cron, schedule.timezone or "UTC")
    if not schedule.day_or:
        return Live(one.id, one.slug, None, f"{timing}, days of both kinds")
    return Live(one.id, one.slug, timing, str(timing))


def judge(
    live: Sequence[Live],
    applied: Mapping[str, Timing] | None,
    declared: Mapping[str, Timing],
    *,
    reset: bool = False,
) -> Verdict:
    """Compare the three sides of a deployment that exists.

    Args:
        live: The schedules on the server.
        applied: What was applied last, by slug; None when nothing is known.
        declared: What prefect.yaml says, by slug.
        reset: Take what is declared, whatever an operator did. What is paused stays paused.
    """
    known = applied or {}
    create: dict[str, Timing] = {}
    update: dict[Live, Timing] = {}
    delete: list[Live] = []
    kept: list[str] = []
    record = {slug: known.get(slug, timing) for slug, timing in declared.items()}
    by_slug = {one.slug: one for one in live if one.slug}
    for slug, timing in declared.items():
        one = by_slug.get(slug)
        if one is None:
            if reset or (applied is not None and slug not in known):
                create[slug] = record[slug] = timing
            else:
                kept.append(f"schedule {slug} stays deleted: an operator deleted it")
        elif one.timing == timing:
            record[slug] = timing
        elif reset or (slug in known and one.timing == known[slug]):
            update[one] = record[slug] = timing
        else:
            kept.append(f"schedule {slug} stays {one.text} (here {timing}): an operator edited it")
    for one in live:
        if one.slug in declared:
            continue
        if reset or (one.timing is not None and one.timing == known.get(one.slug or "")):
            delete.append(one)
        else:
            kept.append(f"schedule {one.name} ({one.text}) stays: an operator added it")
    return Verdict(create, update, delete, kept, record)
