"""One deployment's schedules, as an import changes them."""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule

from deployments.setup.changes import Changes
from deployments.setup.schedule_merge import to_live

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True)
class Target:
    """A deployment whose schedules are changed.

    Attributes:
        client: of the Prefect server.
        name: the deployment's full name.
        deployment: the deployment as it was before.
        changes: where each change is listed.
    """

    client: SyncPrefectClient
    name: str
    deployment: DeploymentResponse
    changes: Changes

    @property
    def slugs(self) -> list[str]:
        """The slugs of its schedules."""
        return [one.slug for one in self.deployment.schedules if one.slug]

    def state(self, slug: str) -> str:
        """Return what a schedule does, as a clause."""
        live = self._live(slug)
        if live is None:
            return "no schedule here replaces it"
        runs = live.active and not self.deployment.paused
        return f"the schedule here, {to_live(live).text}, {'runs' if runs else 'is paused'}"

    def apply(self, slug: str, wanted: SCHEDULE_TYPES, when: str, *, active: bool) -> None:
        """Make a schedule, or change it if it differs.

        Args:
            slug: which one.
            wanted: when it starts runs.
            when: the same as text.
            active: whether it starts runs; False pauses it.
        """
        line = f"{self.name}: schedule {slug}"
        switch = "on" if active else "paused"
        live = self._live(slug)
        if live is None:
            new = DeploymentScheduleCreate(schedule=wanted, active=active, slug=slug)
            self.changes.make(
                f"{line} made: {when}, {switch}",
                partial(self.client.create_deployment_schedules, self.deployment.id, [new]),
            )
            return
        edited = [f"{to_live(live).text} becomes {when}"] if _differs(live, wanted) else []
        schedule = wanted if edited else live.schedule
        if live.active != active:
            edited.append("resumed" if active else "paused")
        if not edited:
            self.changes.keep(f"{line}: {when}, {switch}")
            return
        self._update(f"{line}: {', '.join(edited)}", live, schedule, active=active)

    def pause(self, slug: str, because: str) -> None:
        """Pause a schedule if there is one, and keep when it would start runs."""
        live = self._live(slug)
        if live is None:
            return
        line = f"{self.name}: schedule {slug}"
        if not live.active:
            self.changes.keep(f"{line}: {to_live(live).text}, paused")
            return
        self._update(
            f"{line}: paused, because {because} in Beat", live, live.schedule, active=False
        )

    def _update(
        self, line: str, live: DeploymentSchedule, schedule: SCHEDULE_TYPES, *, active: bool
    ) -> None:
        self.changes.make(
            line,
            partial(
                self.client.update_deployment_schedule,
                self.deployment.id,
                live.id,
                active=active,
                schedule=schedule,
                # The server empties them when a request does not hold them.
                parameters=live.parameters,
            ),
        )

    def _live(self, slug: str) -> DeploymentSchedule | None:
        return next((one for one in self.deployment.schedules if one.slug == slug), None)


def _differs(live: DeploymentSchedule, wanted: SCHEDULE_TYPES) -> bool:
    one = live.schedule
    if isinstance(one, CronSchedule) and isinstance(wanted, CronSchedule):
        return (one.cron, one.timezone or "UTC", one.day_or) != (
            wanted.cron,
            wanted.timezone,
            wanted.day_or,
        )
    if isinstance(one, IntervalSchedule) and isinstance(wanted, IntervalSchedule):
        return one.interval != wanted.interval
    if isinstance(one, CronSchedule) and isinstance(wanted, IntervalSchedule):
        return one.cron != _as_cron(wanted.interval)
    return True


def _as_cron(interval: timedelta) -> str | None:
    """Return the cron line of an interval that divides an hour, which is as often.

    Validibot makes intervals of the tasks that its own tables describe with such cron lines.
    """
    minutes, rest = divmod(interval, MINUTE)
    return f"*/{minutes} * * * *" if not rest and interval < HOUR and not HOUR % interval else None
