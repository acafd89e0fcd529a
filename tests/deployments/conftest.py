"""A Prefect server with all deployments, shared by the tests that look at it."""

from collections.abc import Iterator

import pytest
from prefect.settings import temporary_settings

from demo.processes import wait_until
from demo.servers import PrefectServer
from deployments.names import WORK_POOL
from flows.jobs import JOBS
from tests.support.jobs_on_server import scheduled_jobs
from tests.support.prefect_server import (
    ask,
    automations,
    deployed_prefect,
    deployments,
    edit_schedule,
    schedules,
    settings_of,
)

SETTLED_SECONDS = 60
QUIET_SECONDS = 30
SCHEDULER = {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2"}
"""After an edit Prefect makes new runs within a minute; the tests do not wait so long."""


@pytest.fixture(scope="session")
def deployed_server() -> Iterator[PrefectServer]:
    """A server that `python -m deployments` has set up. No worker serves its work pool."""
    with deployed_prefect(SCHEDULER) as running:
        yield running


@pytest.fixture
def deployed(deployed_server: PrefectServer) -> Iterator[PrefectServer]:
    """The same; this process's own Prefect client asks it."""
    with temporary_settings(settings_of(deployed_server)):
        yield deployed_server


@pytest.fixture
def restored(deployed: PrefectServer) -> Iterator[PrefectServer]:
    """The same for tests that edit what was deployed: afterwards all is as it was."""
    yield deployed
    as_it_was(deployed)


@pytest.fixture
def quiet_server(deployed_server: PrefectServer) -> Iterator[PrefectServer]:
    """A server that starts no runs by itself: one might come before the run of a test."""
    scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}

    def quiet() -> bool:
        # The scheduler may have been at work on what was just switched off.
        waiting = ask(deployed_server, "POST", "/flow_runs/filter", scheduled)
        coming = [one["id"] for one in waiting if one["auto_scheduled"]]
        for one in coming:
            ask(deployed_server, "DELETE", f"/flow_runs/{one}")
        return not coming

    try:
        for job in JOBS:
            edit_schedule(deployed_server, job, {"active": False})
        wait_until(quiet, QUIET_SECONDS, "the end of coming runs", [])
        yield deployed_server
    finally:
        for job in JOBS:
            edit_schedule(deployed_server, job, {"active": not JOBS[job].off_at_first})


def as_it_was(server: PrefectServer) -> None:
    """Undo what operators do, and wait until the server has made the coming runs anew."""
    ask(server, "PATCH", f"/work_pools/{WORK_POOL}", {"is_paused": False})
    for name, found in automations(server).items():
        if "(example)" not in name:
            ask(server, "PATCH", f"/automations/{found[0]['id']}", {"enabled": True})
    edited = schedules(server)
    for job, deployment in deployments(server).items():
        path = f"/deployments/{deployment['id']}"
        if deployment["paused"]:
            ask(server, "PATCH", path, {"paused": False})
        for one in deployment["schedules"]:
            if one["slug"] != job:
                ask(server, "DELETE", f"{path}/schedules/{one['id']}")
        active = not JOBS[job].off_at_first
        if (JOBS[job].schedule, "UTC", active) not in edited[job]:
            cron = {"cron": JOBS[job].schedule, "timezone": "UTC", "day_or": True}
            edit_schedule(server, job, {"schedule": cron, "active": active})
    on = {name for name, job in JOBS.items() if not job.off_at_first}
    wait_until(lambda: scheduled_jobs(server) == on, SETTLED_SECONDS, "coming runs", [])
