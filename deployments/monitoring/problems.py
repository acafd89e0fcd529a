"""What the watch reports: decided from what was read, without a server or a database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prefect.client.schemas.objects import Worker
from prefect.events import Event

from deployments.monitoring.job_state import JobState, seen_lately, unseen_since
from deployments.monitoring.lateness import late
from deployments.names import WORK_POOL
from flows.backlog import Backlog, time_budget
from flows.jobs import JOBS
from flows.run.events import PREFIX

NOT_RUN = f"{PREFIX}.not-run"
REPEAT_AFTER = timedelta(hours=1)
MAX_TEXT = 1_000


@dataclass(frozen=True)
class Problem:
    """One problem, and the Prefect resource that it is about."""

    resource: str
    name: str
    text: str

    def __str__(self) -> str:
        """Write it as one line."""
        return f"{self.name}: {self.text}"

    def to_event(self) -> Event:
        """Return the event that reports it."""
        return Event(
            event=NOT_RUN,
            resource={"prefect.resource.id": self.resource, "prefect.resource.name": self.name},
            payload={"name": self.name, "reason": self.text},
        )


@dataclass
class Reported:
    """When each problem was last reported as an event."""

    at: dict[str, datetime] = field(default_factory=dict)

    def due(self, problems: Sequence[Problem], now: datetime) -> list[Problem]:
        """Return the problems to report now; forget those that have ended."""
        present = {problem.resource for problem in problems}
        self.at = {resource: when for resource, when in self.at.items() if resource in present}
        return [
            problem
            for problem in problems
            if problem.resource not in self.at or now - self.at[problem.resource] >= REPEAT_AFTER
        ]

    def add(self, problems: Sequence[Problem], now: datetime) -> None:
        """Remember that problems were reported."""
        self.at |= dict.fromkeys((problem.resource for problem in problems), now)


def find_problems(
    states: Sequence[JobState],
    workers: Sequence[Worker],
    backlogs: Mapping[str, Backlog],
    now: datetime,
) -> list[Problem]:
    """Return a missing worker and the late jobs.

    Args:
        states: the state of every job.
        workers: the workers of the work pool, the one heard of last first.
        backlogs: the backlog of every job.
        now: the time of the decision.
    """
    found = []
    # A worker is missed only if something is scheduled.
    if any(state.active for state in states) and not any(seen_lately(one, now) for one in workers):
        text = unseen_since(workers)
        found.append(Problem(f"{PREFIX}.worker", f"worker of {WORK_POOL}", text))
    for state in states:
        reasons = _reasons(state, backlogs[state.job], now)
        if reasons:
            text = "; ".join(reasons)[:MAX_TEXT]
            found.append(Problem(f"{PREFIX}.job.{state.job}", state.job, text))
    return found


def backlog_problems(backlogs: Mapping[str, Backlog]) -> list[Problem]:
    """Return one problem that names every backlog that could not be counted, if any."""
    text = "; ".join(uncounted(backlogs))[:MAX_TEXT]
    return [Problem(f"{PREFIX}.backlog", "backlog", text)] if text else []


def uncounted(backlogs: Mapping[str, Backlog]) -> list[str]:
    """Return a sentence for each cause that kept backlogs from being counted."""
    causes: dict[str, list[str]] = {}
    for job, backlog in backlogs.items():
        if backlog.problem:
            causes.setdefault(backlog.problem, []).append(job)
    return [
        f"what is overdue of {'any job' if len(jobs) == len(JOBS) else ', '.join(jobs)}"
        f" cannot be counted: {cause}"
        for cause, jobs in causes.items()
    ]


def _reasons(state: JobState, backlog: Backlog, now: datetime) -> list[str]:
    try:
        return late(state, backlog, time_budget(state.job), now)
    except Exception as error:  # noqa: BLE001 - an invalid schedule must not hide other late jobs
        return [f"whether it is late cannot be computed: unexpected {type(error).__name__}"]
