"""Whose schedule is it? Three sides compared: live, last applied, and declared.

| live | last applied | declared | then |
|---|---|---|---|
| as declared | anything | A | nothing to do |
| A | A | B | the default has changed, and nobody edited: take B |
| X | A | A | an operator edited it: keep X |
| X | A | B | the same, and B waits for a person's word |
| gone | A | A | an operator deleted it: leave it so |
| gone | A | B | the same, and B waits for a person's word |
| gone | never | A | it is new: make it |
| X | never | not there | an operator added it: keep it |
| A | A | not there | it is declared no more: delete it |
| X | A | not there | an operator edited it: keep X; that it is to go waits for a person's word |

A deployment of which nothing is known (it was made by something else) counts as edited wherever
it differs: better an old default than an operator's edit undone. What waits goes on waiting at
every apply, because what was applied last stays A until somebody takes B.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule

from deployments.setup.conflicts import Conflict

EDITED = "an operator edited it"


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
    conflicts: Sequence[Conflict]
    """What was kept as well, and has another default than it was given last."""
    applied: Mapping[str, Timing]
    """What counts as last applied once all that is done."""


@dataclass(frozen=True)
class _Kept:
    known: Mapping[str, Timing]
    lines: list[str] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)

    def keep(self, slug: str, text: str, offered: Timing | None, because: str) -> None:
        conflict = Conflict(f"schedule {slug}", text, str(offered or "none"), because)
        if slug in self.known and self.known[slug] != offered:
            self.conflicts.append(conflict)
        else:
            self.lines.append(str(conflict))


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
    kept = _Kept(known)
    record = {slug: known.get(slug, timing) for slug, timing in declared.items()}
    by_slug = {one.slug: one for one in live if one.slug}
    for slug, timing in declared.items():
        one = by_slug.get(slug)
        if one is None:
            if reset or (applied is not None and slug not in known):
                create[slug] = record[slug] = timing
            else:
                kept.keep(slug, "deleted", timing, "an operator deleted it")
        elif one.timing == timing:
            record[slug] = timing
        elif reset or (slug in known and one.timing == known[slug]):
            update[one] = record[slug] = timing
        else:
            kept.keep(slug, one.text, timing, EDITED)
    delete: list[Live] = []
    for one in live:
        if one.slug in declared:
            continue
        last = known.get(one.slug or "")
        if reset or (last is not None and one.timing == last):
            delete.append(one)
        elif last is not None:
            kept.keep(one.name, one.text, None, EDITED)
            record[one.name] = last
        else:
            kept.lines.append(f"schedule {one.name} ({one.text}) stays: an operator added it")
    return Verdict(create, update, delete, kept.lines, kept.conflicts, record)
