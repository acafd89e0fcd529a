"""Pausing and resuming the schedules of a job, by its name."""

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse

from deployments.client import server
from deployments.following import NotDeployed
from deployments.names import DEPLOYMENT
from deployments.setup.deployment import read_deployment
from deployments.setup.schedule_merge import to_live
from maintenance.wording import number_of


def switch(job: str, *, active: bool) -> str:
    """Resume or pause all schedules of a job; return what was done, as a sentence.

    Runs that have begun go on. A deployment that was paused as a whole is resumed, too.

    Raises:
        NotDeployed: the job is not deployed.
        ServerUnavailable: the Prefect server cannot be used.
    """
    with server() as client:
        found = read_deployment(client, f"{job}/{DEPLOYMENT}")
        if found is None:
            raise NotDeployed(job)
        return f"{job}/{DEPLOYMENT}: {_switch(client, found, active=active)}"


def _switch(client: SyncPrefectClient, found: DeploymentResponse, *, active: bool) -> str:
    changing = [one for one in found.schedules if one.active is not active]
    for one in changing:
        client.update_deployment_schedule(
            found.id,
            one.id,
            active=active,
            schedule=one.schedule,
            parameters=one.parameters,  # the server empties them when a request does not hold them
        )
    resumed = active and found.paused
    if resumed:
        client.resume_deployment(found.id)
    word = "resumed" if active else "paused"
    if not found.schedules:
        return "has no schedule, and runs by hand only"
    if changing:
        times = ", ".join(to_live(one).text for one in changing)
        return f"{word} {number_of(len(changing), 'schedules')} ({times})"
    return word if resumed else f"was {word} already"
