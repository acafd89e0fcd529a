"""Preflight checks of the Prefect server and of what is set up on it."""

from datetime import UTC, datetime, timedelta

import prefect
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound

from deployments.client import ServerUnavailable, address, server
from deployments.due import never_due
from deployments.monitoring.job_state import (
    NO_SCHEDULE,
    JobState,
    read_job,
    read_workers,
    seen_lately,
    unseen_since,
)
from deployments.monitoring.open_server import LOGIN, check_login
from deployments.monitoring.worker_names import starts_without_end
from deployments.names import DEPLOYMENT, WORK_POOL
from deployments.settings import load_deployment_settings
from deployments.setup.automations.rescue import LOST, RERUN
from flows.jobs import JOBS
from maintenance.checks.finding import Check, Finding, error, not_checked, ok, warning

SETTINGS, SERVER, POOL, WORKER = "schedules' settings", "Prefect server", "work pool", "worker"
RESCUE = "crash rescue"
SCHEDULER_LOOP = timedelta(seconds=90)
"""The server makes the runs of a schedule that was edited within a minute."""
RETRIES = 1
"""Fewer than elsewhere: an operator waits for the result."""
APPLY = "set it up with: python -m deployments"


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
            found += _pool(client)
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


def _pool(client: SyncPrefectClient) -> list[Finding]:
    try:
        pool = client.read_work_pool(WORK_POOL)
    except ObjectNotFound:
        missing = error(POOL, f"there is no work pool {WORK_POOL}", APPLY)
        return [missing, *not_checked([WORKER], "there is no work pool")]
    text = f"{pool.name}, type {pool.type}"
    if pool.is_paused:
        found = warning(POOL, f"{text}, paused", f"prefect work-pool resume {WORK_POOL}")
    else:
        found = ok(POOL, text)
    return [found, _worker(client)]


def _worker(client: SyncPrefectClient) -> Finding:
    now = datetime.now(UTC)
    workers = read_workers(client)
    present = sorted((one for one in workers if seen_lately(one, now)), key=lambda one: one.name)
    for one in present:
        starts = starts_without_end(client, WORK_POOL, one)
        if len(starts) > 1:
            latest, before = (f"{start:%Y-%m-%d %H:%M:%S}" for start in starts[:2])
            return warning(
                WORKER,
                f"{one.name} was started at {latest} UTC, and the one of {before} UTC has not"
                " ended: it was killed, or two workers have this name",
                f"stop it, and check again after two minutes: if {one.name} is still seen, another"
                " one runs, which needs another name (-- --name NAME). Then start it again",
            )
    if present:
        return ok(WORKER, f"seen lately: {', '.join(one.name for one in present)}")
    action = "start one with: python -m deployments.worker"
    return error(WORKER, unseen_since(workers), action)


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
    assert job.deployment is not None  # noqa: S101 - a job without one is not paused
    if job.deployment.paused:
        return "resume the deployment in the UI"
    paused = next(one for one in job.deployment.schedules if not one.active)
    return f"prefect deployment schedule resume {_name(job.job)} {paused.id}"


def _name(job: str) -> str:
    return f"{job}/{DEPLOYMENT}"
