"""Three-way merge of a deployment's schedules: live, last applied, declared.

| live | last applied | declared | result |
|---|---|---|---|
| A | any | A | nothing to do |
| A | A | B | the default has changed: update to B |
| X | A | A | an operator edited it: keep X |
| X | A | B | an operator edited it: keep X; conflict with B |
| deleted | A | A | an operator deleted it: keep it deleted |
| deleted | A | B | an operator deleted it: keep it deleted; conflict with B |
| none | none | A | new: create it |
| X | none | none | an operator added it: keep it |
| A | A | none | no longer declared: delete it |
| X | A | none | an operator edited it: keep X; conflict with its deletion |

If the last applied state is not known (the deployment was created by something else), each
difference counts as an operator's edit, so that no edit is ever undone. A conflict is reported by
every apply, because the last applied state stays A until B is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from deployments.due import NEVER_DUE, never_due
from deployments.setup.conflicts import Conflict
from maintenance.beat.interval import describe

EDITED = "an operator edited it"


@dataclass(frozen=True)
class Timing:
    """When a schedule starts runs: a cron line in a time zone."""

    cron: str
    timezone: str

    def __str__(self) -> str:
        """Write it for a table."""
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
        """The slug, or the identifier if it has none."""
        return self.slug or str(self.id)


@dataclass(frozen=True)
class Merge:
    """The changes to the schedules of one deployment, and what is kept and why."""

    create: Mapping[str, Timing]
    update: Mapping[Live, Timing]
    delete: Sequence[Live]
    kept: Sequence[str]
    conflicts: Sequence[Conflict]
    """What is kept although its default has changed."""
    applied: Mapping[str, Timing]
    """The last applied state after these changes."""


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
    """Return a schedule of the server in the form that is merged."""
    schedule = one.schedule
    if isinstance(schedule, IntervalSchedule):
        return Live(one.id, one.slug, None, describe(schedule.interval))
    if not isinstance(schedule, CronSchedule):
        kind = type(schedule).__name__.removesuffix("Schedule").lower()
        return Live(one.id, one.slug, None, kind)
    timing = Timing(schedule.cron, schedule.timezone or "UTC")
    never = f", {NEVER_DUE}" if never_due(schedule) else ""
    if not schedule.day_or:
        return Live(one.id, one.slug, None, f"{timing}, days of both kinds{never}")
    return Live(one.id, one.slug, timing, f"{timing}{never}")


def merge(
    live: Sequence[Live],
    applied: Mapping[str, Timing] | None,
    declared: Mapping[str, Timing],
    *,
    reset: bool = False,
) -> Merge:
    """Merge the schedules of a deployment that exists.

    Args:
        live: The schedules on the server.
        applied: The last applied schedules, by slug; None if they are not known.
        declared: The schedules of prefect.yaml, by slug.
        reset: Take the declared schedules, whatever an operator did.
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
    return Merge(create, update, delete, kept.lines, kept.conflicts, record)
