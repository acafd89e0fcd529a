"""Preflight checks of the Prefect server and of what is set up on it."""

from datetime import UTC, datetime, timedelta

import prefect
from prefect.client.orchestration import SyncPrefectClient

from deployments.client import ServerUnavailable, server
from deployments.due import never_due
from deployments.monitoring.job_state import (
    NO_SCHEDULE,
    JobState,
    read_job,
)
from deployments.monitoring.open_server import LOGIN, check_login
from deployments.monitoring.pool_check import APPLY, POOL, WORKER, check_pool
from deployments.names import DEPLOYMENT, WORK_POOL
from deployments.settings import load_deployment_settings
from deployments.setup.automations.rescue import LOST, RERUN
from flows.jobs import JOBS
from flows.run.server_access import address
from maintenance.checks.finding import Check, Finding, error, not_checked, ok, warning

SETTINGS, SERVER = "schedules' settings", "Prefect server"
RESCUE = "crash rescue"
SCHEDULER_LOOP = timedelta(seconds=90)
"""The server makes the runs of a schedule that was edited within a minute."""
RETRIES = 1
"""Fewer than elsewhere: an operator waits for the result."""


def deployment_checks() -> list[Check]:
    """Return the checks of the settings and of the server."""
    jobs = tuple(_name(job) for job in JOBS)
    return [
        Check((SETTINGS,), lambda: [_settings()]),
        Check((SERVER, LOGIN, POOL, WORKER, RESCUE, *jobs), _check_server),
    ]


def _settings() -> Finding:
    found = load_deployment_settings()
    return ok(SETTINGS, f"time zone {found.time_zone}")


def _check_server() -> list[Finding]:
    """Check one part after the other; after a failure the remaining ones are "not checked"."""
    found: list[Finding] = []
    names = [SERVER, LOGIN, POOL, WORKER, RESCUE, *(_name(job) for job in JOBS)]
    try:
        with server(RETRIES) as client:
            found.append(_server(client))
            found.append(check_login())
            found += check_pool(client)
            found.append(_rescue(client))
            found += [_deployment(read_job(client, job)) for job in JOBS]
    except ServerUnavailable as problem:
        found.append(error(names[len(found)], problem.cause, problem.action))
        found += not_checked(names[len(found) :], "the Prefect server does not answer")
    return found


def _server(client: SyncPrefectClient) -> Finding:
    client.read_work_pools(limit=1)  # unlike the health check, this needs authentication
    version = client.request("GET", "/admin/version").json()
    where = f"{address()}, Prefect {version}"
    if version != prefect.__version__:
        return warning(
            SERVER, where, f"here it is {prefect.__version__}: run the same version on both sides"
        )
    return ok(SERVER, where)


def _rescue(client: SyncPrefectClient) -> Finding:
    present = {one.name: one.enabled for one in client.read_automations()}
    wanted = (LOST, RERUN)
    missing = [name for name in wanted if name not in present]
    if missing:
        return warning(
            RESCUE, f"no automation {', '.join(missing)}: runs that crash stay so", APPLY
        )
    off = [name for name in wanted if not present[name]]
    if off:
        return warning(
            RESCUE, f"switched off: {', '.join(off)}", "switch it on: prefect automation resume"
        )
    return ok(RESCUE, "runs that crash are started again")


def _deployment(job: JobState) -> Finding:
    name = _name(job.job)
    if job.deployment is None:
        return error(name, "there is no such deployment", APPLY)
    pool = job.deployment.work_pool_name
    if pool != WORK_POOL:
        return error(name, f"is served by work pool {pool}, not by {WORK_POOL}", APPLY)
    return _schedule(name, job)


def _schedule(name: str, job: JobState) -> Finding:
    if job.schedule == NO_SCHEDULE:
        return warning(
            name,
            "has no schedule: runs only by hand",
            "take the default with: python -m deployments --reset-schedules",
        )
    if job.paused:
        return _paused(name, job)
    if any(never_due(active.schedule) for active in job.active):
        action = "edit or pause it: while it is active, the server makes no runs of this deployment"
        return error(name, job.schedule, action)
    if job.next_run is None and _edited_lately(job):
        return warning(name, f"{job.schedule}, edited just now", "its runs come within a minute")
    if job.next_run is None:
        return error(
            name,
            f"{job.schedule}, but the server has scheduled no run",
            "look into the server's log for errors of its scheduler",
        )
    return ok(name, f"{job.schedule}, next run {job.next_run:%Y-%m-%d %H:%M} UTC")


def _paused(name: str, job: JobState) -> Finding:
    if JOBS[job.job].off_at_first:
        return ok(name, f"{job.schedule}, off: runs by hand")
    return warning(name, f"{job.schedule}, paused", f"when the pause is over: {_resume(job)}")


def _edited_lately(job: JobState) -> bool:
    """Return whether the scheduler may not have processed the latest edit of a schedule yet."""
    edited = max((one.updated for one in job.active if one.updated), default=None)
    return edited is not None and datetime.now(UTC) - edited <= SCHEDULER_LOOP


def _resume(job: JobState) -> str:
    return f"python -m maintenance resume {job.job}"


def _name(job: str) -> str:
    return f"{job}/{DEPLOYMENT}"
